//! One parameter of a request: where its value comes from.

use core::fmt;

use alloc::{borrow::ToOwned as _, string::String};
use serde::{
    Deserialize, Deserializer, de,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::constant::Constant;
use crate::field::{Field, Format, Value};

/// A parameter as configured: a constant, or one of `{ field = … }`,
/// `{ secret = … }` and `{ value = … }`.
#[derive(Clone, Debug)]
pub(in crate::adapter) struct Parameter {
    pub(in crate::adapter) source: Source,
    pub(in crate::adapter) prefix: String,
    pub(in crate::adapter) format: Format,
    /// Without the field there is no request.
    pub(in crate::adapter) is_required: bool,
    /// Stands in for a field that is unknown or withheld.
    pub(in crate::adapter) otherwise: Option<Value>,
}

/// Where a value comes from.
#[derive(Clone, Debug)]
pub(in crate::adapter) enum Source {
    Field(Field),
    /// By its name.
    Secret(String),
    Constant(serde_json::Value),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    field: Option<Field>,
    secret: Option<String>,
    value: Option<serde_json::Value>,
    prefix: Option<String>,
    format: Option<Format>,
    required: Option<bool>,
    otherwise: Option<Constant>,
}

impl<'de> Deserialize<'de> for Parameter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ParameterVisitor)
    }
}

struct ParameterVisitor;

impl<'de> Visitor<'de> for ParameterVisitor {
    type Value = Parameter;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(
            "a text, a whole number, true or false, { field = … }, { secret = … } or { value = … }",
        )
    }

    fn visit_str<E>(self, text: &str) -> Result<Parameter, E> {
        Ok(constant(text.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Parameter, E> {
        Ok(constant(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Parameter, E> {
        Ok(constant(number.into()))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Parameter, E> {
        Ok(constant(flag.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Parameter, A::Error> {
        let table = Table::deserialize(MapAccessDeserializer::new(map))?;
        table.parameter().map_err(de::Error::custom)
    }
}

fn constant(value: serde_json::Value) -> Parameter {
    Parameter {
        source: Source::Constant(value),
        prefix: String::new(),
        format: Format::Plain,
        is_required: false,
        otherwise: None,
    }
}

impl Table {
    fn parameter(self) -> Result<Parameter, String> {
        let source = match (self.field, self.secret, self.value) {
            (Some(field), None, None) => Source::Field(field),
            (None, Some(secret), None) => Source::Secret(secret),
            (None, None, Some(value)) => Source::Constant(value),
            _ => return Err("expected exactly one of field, secret and value".to_owned()),
        };
        let is_field = matches!(source, Source::Field(_));
        let is_constant = matches!(source, Source::Constant(_));
        let has_field_keys =
            self.format.is_some() || self.required.is_some() || self.otherwise.is_some();
        if has_field_keys && !is_field {
            return Err("format, required and otherwise go with a field".to_owned());
        }
        if self.prefix.is_some() && is_constant {
            return Err("prefix goes with a field or a secret".to_owned());
        }
        let is_required = self.required.unwrap_or_default();
        if is_required && self.otherwise.is_some() {
            return Err("a required field has no otherwise".to_owned());
        }
        Ok(Parameter {
            source,
            prefix: self.prefix.unwrap_or_default(),
            format: self.format.unwrap_or_default(),
            is_required,
            otherwise: self.otherwise.map(|Constant(value)| value),
        })
    }
}
