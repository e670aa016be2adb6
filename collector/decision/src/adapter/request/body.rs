//! The body: a JSON document whose members come from parameters.

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};

use serde_json::{Map, Value};

use super::ready::Ready;
use crate::{
    adapter::{
        ParametersError,
        pointer::{Pointer, index},
        wrong,
    },
    ask::Ask,
    call::Unaskable,
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
    pub(super) fn json(&self, ask: &Ask<'_>) -> Result<String, Unaskable> {
        let empty = match self {
            Self::List(_) => Value::Array(Vec::new()),
            Self::Leaf(_) | Self::Object(_) => Value::Object(Map::new()),
        };
        Ok(format!("{}", self.value(ask)?.unwrap_or(empty)))
    }

    /// What there is to tell; `None` when that is nothing.
    fn value(&self, ask: &Ask<'_>) -> Result<Option<Value>, Unaskable> {
        match self {
            Self::Leaf(ready) => ready.json(ask),
            Self::Object(members) => {
                let mut object = Map::new();
                for (name, part) in members {
                    if let Some(value) = part.value(ask)? {
                        object.insert(name.clone(), value);
                    }
                }
                Ok((!object.is_empty()).then_some(Value::Object(object)))
            }
            Self::List(items) => {
                let mut list = Vec::new();
                for part in items {
                    list.extend(part.value(ask)?);
                }
                Ok((!list.is_empty()).then_some(Value::Array(list)))
            }
        }
    }
}
