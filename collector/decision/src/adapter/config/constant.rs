//! A single value that stands in the configuration itself.

use core::fmt;

use alloc::borrow::ToOwned as _;
use serde::{Deserialize, Deserializer, de, de::Visitor};

use crate::field::Value;

/// A text, a whole number or a flag.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::adapter) struct Constant(pub(in crate::adapter) Value);

impl<'de> Deserialize<'de> for Constant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ConstantVisitor)
    }
}

struct ConstantVisitor;

impl Visitor<'_> for ConstantVisitor {
    type Value = Constant;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text, a whole number, or true or false")
    }

    fn visit_str<E>(self, text: &str) -> Result<Constant, E> {
        Ok(Constant(Value::Text(text.to_owned())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Constant, E> {
        Ok(Constant(Value::Number(number)))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Constant, E> {
        i64::try_from(number)
            .map(|number| Constant(Value::Number(number)))
            .map_err(|_| E::custom("a whole number below 2^63 is expected"))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Constant, E> {
        Ok(Constant(Value::Flag(flag)))
    }
}
