//! What an aggregator can be told: one table with the name of each field, who
//! may see it, and how it is read from the context of a slot. Owns no encoding
//! and no configuration.

mod calendar;
mod read;
mod table;
mod value;

use core::fmt;

use alloc::{format, string::String};
use returnpath_shared::wire::Privacy;
use serde::{Deserialize, Deserializer, de};

pub use self::value::Format;
pub(crate) use self::value::Value;
use crate::ask::Ask;

/// A piece of context, named by its place in [`Field::all`].
#[derive(Clone, Copy)]
pub struct Field(&'static Row);

/// One row of the table.
struct Row {
    name: &'static str,
    audience: Audience,
    read: Read,
    about: &'static str,
}

/// Reads a field; `None` while unknown.
type Read = fn(&Ask<'_>) -> Option<Value>;

/// When a field may be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Audience {
    /// Always: it describes the break or the channel, or is the consent itself.
    Contextual,
    /// Only where the viewer agreed: it tells boxes or households apart, or
    /// what they did.
    Personal,
}

impl Field {
    /// Every field, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        table::FIELDS.iter().map(Self)
    }

    /// The field of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|field| field.name() == name)
    }

    /// As configurations name it.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// What it is, in what form, for people.
    pub fn about(self) -> &'static str {
        self.0.about
    }

    /// Whether it may be told without consent.
    pub fn is_contextual(self) -> bool {
        self.0.audience == Audience::Contextual
    }

    /// Whether it may be told at this privacy. Anything but an agreement to be
    /// personalised counts as none.
    pub fn is_visible(self, privacy: Privacy) -> bool {
        self.is_contextual() || privacy == Privacy::Personalised
    }

    /// Its value; `None` while unknown. Whether it may be told is not asked
    /// here.
    pub(crate) fn read(self, ask: &Ask<'_>) -> Option<Value> {
        (self.0.read)(ask)
    }
}

impl PartialEq for Field {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Field {}

impl fmt::Debug for Field {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::named(&name).ok_or_else(|| {
            let mut known = String::new();
            for field in Self::all() {
                if !known.is_empty() {
                    known.push_str(", ");
                }
                known.push_str(field.name());
            }
            de::Error::custom(format!("{name:?} is no field; expected one of {known}"))
        })
    }
}
