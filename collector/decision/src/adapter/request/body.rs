//! The body: a JSON document whose members come from parameters.

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};

use serde::{Serialize, Serializer};

use super::ready::Ready;
use crate::{
    adapter::{
        ParametersError,
        pointer::{Pointer, index},
        wrong,
    },
    ask::Ask,
    call::Unaskable,
    field::Value,
};

/// The document, or a part of it.
#[derive(Clone, Debug)]
pub(super) enum Body {
    Leaf(Ready),
    Object(Vec<(String, Body)>),
    List(Vec<Body>),
}

impl Body {
    /// The document in which each value stands where its pointer leads.
    pub(super) fn new(members: Vec<(Pointer, Ready)>) -> Result<Self, ParametersError> {
        for (place, (pointer, _)) in members.iter().enumerate() {
            let key = || format!("body.{pointer}");
            if pointer.steps().is_empty() {
                return Err(wrong(key(), "a pointer to a member, such as /slot/id"));
            }
            let mut others = members.iter().enumerate();
            if others.any(|(other, (inner, _))| other != place && pointer.holds(inner)) {
                return Err(wrong(key(), "no pointer below that of another value"));
            }
        }
        let members = members
            .into_iter()
            .map(|(pointer, ready)| (pointer.steps().to_vec(), ready));
        Self::level(members.collect(), "body.")
    }

    /// One level of the document, from what is left of each pointer.
    fn level(members: Vec<(Vec<String>, Ready)>, place: &str) -> Result<Self, ParametersError> {
        let mut below: BTreeMap<String, Vec<(Vec<String>, Ready)>> = BTreeMap::new();
        for (mut steps, ready) in members {
            if steps.is_empty() {
                return Ok(Self::Leaf(ready));
            }
            let first = steps.remove(0);
            below.entry(first).or_default().push((steps, ready));
        }
        let indices = below.keys().filter(|step| index(step).is_some()).count();
        if indices == 0 {
            let mut object = Vec::new();
            for (name, members) in below {
                let part = Self::level(members, &format!("{place}/{name}"))?;
                object.push((name, part));
            }
            return Ok(Self::Object(object));
        }
        let mut list = Vec::new();
        for position in 0..below.len() {
            let step = format!("{position}");
            let members = below.remove(&step).ok_or_else(|| {
                wrong(
                    place,
                    "names alone, or places of a list from 0 without gaps",
                )
            })?;
            list.push(Self::level(members, &format!("{place}/{step}"))?);
        }
        Ok(Self::List(list))
    }

    /// The document as text.
    pub(super) fn json(&self, ask: &Ask<'_>) -> Result<Vec<u8>, Unaskable> {
        let empty = match self {
            Self::List(_) => Told::List(Vec::new()),
            Self::Leaf(_) | Self::Object(_) => Told::Object(Vec::new()),
        };
        let told = self.told(ask)?.unwrap_or(empty);
        // A document of texts, numbers and flags below names: nothing of it can
        // fail to be written.
        Ok(serde_json::to_vec(&told).unwrap_or_default())
    }

    /// What there is to tell; `None` when that is nothing.
    fn told(&self, ask: &Ask<'_>) -> Result<Option<Told<'_>>, Unaskable> {
        match self {
            Self::Leaf(ready) => ready.told(ask),
            Self::Object(members) => {
                let mut object = Vec::with_capacity(members.len());
                for (name, part) in members {
                    if let Some(told) = part.told(ask)? {
                        object.push((name.as_str(), told));
                    }
                }
                Ok((!object.is_empty()).then_some(Told::Object(object)))
            }
            Self::List(items) => {
                let mut list = Vec::with_capacity(items.len());
                for part in items {
                    list.extend(part.told(ask)?);
                }
                Ok((!list.is_empty()).then_some(Told::List(list)))
            }
        }
    }
}

/// The document, or a part of it, as it is told for one slot.
pub(super) enum Told<'b> {
    Value(Value),
    Structure(&'b serde_json::Value),
    Object(Vec<(&'b str, Told<'b>)>),
    List(Vec<Told<'b>>),
}

impl Serialize for Told<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(Value::Text(text)) => serializer.serialize_str(text),
            Self::Value(Value::Number(number)) => serializer.serialize_i64(*number),
            Self::Value(Value::Flag(flag)) => serializer.serialize_bool(*flag),
            Self::Structure(value) => value.serialize(serializer),
            Self::Object(members) => {
                serializer.collect_map(members.iter().map(|(name, told)| (name, told)))
            }
            Self::List(items) => serializer.collect_seq(items),
        }
    }
}
