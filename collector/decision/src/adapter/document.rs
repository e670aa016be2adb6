//! An answer's JSON as its own text, read along pointers: numbers keep the
//! digits in which they came, and nothing is built that is not asked for.

use alloc::{borrow::Cow, string::String};
use core::fmt;

use serde::{
    Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::pointer::index;

/// One value of a document that is known to be JSON.
#[derive(Clone, Copy)]
pub(super) struct Node<'a>(&'a RawValue);

/// What a value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Null,
    Flag,
    Number,
    Text,
    List,
    Object,
}

impl<'a> Node<'a> {
    /// The whole document; `None` when it is no JSON.
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(body).ok().map(Self)
    }

    pub(super) fn kind(self) -> Kind {
        match self.0.get().as_bytes().first() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::List,
            Some(b'"') => Kind::Text,
            Some(b't' | b'f') => Kind::Flag,
            Some(b'n') | None => Kind::Null,
            Some(_) => Kind::Number,
        }
    }

    /// The value behind these steps; `None` where there is nothing, or null.
    pub(super) fn at(self, steps: &[String]) -> Option<Self> {
        let mut node = self;
        for step in steps {
            let mut found = [None];
            node.step(core::slice::from_ref(step), &mut found);
            node = found[0]?;
        }
        (node.kind() != Kind::Null).then_some(node)
    }

    /// The values behind one step each, all found in one reading: `found` has
    /// a place for each of `steps`.
    pub(super) fn step(self, steps: &[String], found: &mut [Option<Self>]) {
        if !matches!(self.kind(), Kind::List | Kind::Object) {
            return;
        }
        let mut reader = serde_json::Deserializer::from_str(self.0.get());
        // What is a value of a document is JSON: nothing can fail here.
        let _ = Step { steps, found }.deserialize(&mut reader);
    }

    /// The digits of a number, as they came.
    pub(super) fn number(self) -> Option<&'a str> {
        (self.kind() == Kind::Number).then(|| self.0.get())
    }

    /// A text.
    pub(super) fn text(self) -> Option<String> {
        serde_json::from_str(self.0.get()).ok()
    }

    /// The first `count_max` values of a list.
    pub(super) fn items(self, count_max: usize) -> alloc::vec::Vec<Self> {
        let mut items = alloc::vec::Vec::new();
        let reading = Items {
            count_max,
            items: &mut items,
        };
        let mut reader = serde_json::Deserializer::from_str(self.0.get());
        // What is a value of a document is JSON: only another kind of value
        // can fail here, and has no items.
        let _ = reading.deserialize(&mut reader);
        items
    }
}

/// Finds members of an object, or items of a list.
struct Step<'s, 'f, 'de> {
    steps: &'s [String],
    found: &'f mut [Option<Node<'de>>],
}

impl<'de> DeserializeSeed<'de> for Step<'_, '_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Step<'_, '_, 'de> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object or a list")
    }

    /// Of members with the same name the last counts, as with most readers.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = map.next_key()? {
            let mut steps = self.steps.iter().zip(&mut *self.found);
            match steps.find(|(step, _)| **step == name) {
                Some((_, place)) => *place = Some(Node(map.next_value()?)),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut position = 0;
        while let Some(item) = list.next_element::<&RawValue>()? {
            let mut steps = self.steps.iter().zip(&mut *self.found);
            if let Some((_, place)) = steps.find(|(step, _)| index(step) == Some(position)) {
                *place = Some(Node(item));
            }
            position += 1;
        }
        Ok(())
    }
}

/// The name of a member, borrowed unless it has escapes.
struct Name<'de>(Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;

        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.into())))
            }
        }

        deserializer.deserialize_str(NameVisitor)
    }
}

/// Collects the first items of a list.
struct Items<'v, 'de> {
    count_max: usize,
    items: &'v mut alloc::vec::Vec<Node<'de>>,
}

impl<'de> DeserializeSeed<'de> for Items<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items<'_, 'de> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(item) = list.next_element()? {
            if self.items.len() < self.count_max {
                self.items.push(Node(item));
            }
        }
        Ok(())
    }
}
