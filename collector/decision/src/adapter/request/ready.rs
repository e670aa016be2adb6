//! A parameter ready to be filled in: its secret at hand, its place checked.

use alloc::{
    format,
    string::{String, ToString as _},
};

use percent_encoding::utf8_percent_encode;

use super::{HEADER, body::Told};
use crate::{
    adapter::{
        ParametersError,
        config::{Parameter, Source},
        secret::Secret,
        wrong,
    },
    ask::Ask,
    call::Unaskable,
    field::{Field, Format, Value},
};

/// Where a value comes from, with everything that it needs.
#[derive(Clone, Debug)]
pub(super) enum Ready {
    /// A single value that is always the same.
    Constant(Value),
    /// A list or an object, for a body.
    Structure(serde_json::Value),
    Secret(Secret),
    Field(ReadyField),
}

/// A field with how it is told.
#[derive(Clone, Debug)]
pub(super) struct ReadyField {
    field: Field,
    prefix: String,
    format: Format,
    is_required: bool,
    otherwise: Option<Value>,
}

impl Ready {
    pub(super) fn new<'s>(
        key: &str,
        parameter: Parameter,
        secret: &dyn Fn(&str) -> Option<&'s str>,
    ) -> Result<Self, ParametersError> {
        Ok(match parameter.source {
            Source::Field(field) => Self::Field(ReadyField {
                field,
                prefix: parameter.prefix,
                format: parameter.format,
                is_required: parameter.is_required,
                otherwise: parameter.otherwise,
            }),
            Source::Secret(name) => {
                let value = secret(&name).ok_or_else(|| {
                    wrong(
                        format!("{key}.secret"),
                        format!("a secret that is given; {name} is not"),
                    )
                })?;
                Self::Secret(Secret(parameter.prefix + value))
            }
            Source::Constant(constant) => match constant {
                serde_json::Value::String(text) => Self::Constant(Value::Text(text)),
                serde_json::Value::Bool(flag) => Self::Constant(Value::Flag(flag)),
                serde_json::Value::Number(number) => match number.as_i64() {
                    Some(number) => Self::Constant(Value::Number(number)),
                    None => Self::Structure(number.into()),
                },
                structure @ (serde_json::Value::Null
                | serde_json::Value::Array(_)
                | serde_json::Value::Object(_)) => Self::Structure(structure),
            },
        })
    }

    pub(super) fn text(text: &str) -> Self {
        Self::Constant(Value::Text(text.to_string()))
    }

    /// A query and a header take single values alone.
    pub(super) fn check_single(&self, key: &str) -> Result<(), ParametersError> {
        match self {
            Self::Structure(_) => Err(wrong(
                format!("{key}.value"),
                "a text, a whole number, or true or false",
            )),
            Self::Constant(_) | Self::Secret(_) | Self::Field(_) => Ok(()),
        }
    }

    /// What stands in the configuration stands in a header as it is.
    pub(super) fn check_header(&self, key: &str) -> Result<(), ParametersError> {
        let (part, text) = match self {
            Self::Constant(value) => ("", value.clone().text()),
            Self::Secret(Secret(secret)) => (".secret", secret.clone()),
            Self::Field(field) => (".prefix", field.prefix.clone()),
            Self::Structure(_) => return Ok(()),
        };
        let is_visible = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let is_trimmed = part == ".prefix" || text.trim() == text;
        if is_visible && is_trimmed {
            return Ok(());
        }
        Err(wrong(
            format!("{key}{part}"),
            "visible ASCII without spaces around it",
        ))
    }

    /// The value for a query; `None` when there is none to tell.
    pub(super) fn value(&self, ask: &Ask<'_>) -> Result<Option<Value>, Unaskable> {
        Ok(match self {
            Self::Constant(value) => Some(value.clone()),
            Self::Secret(Secret(secret)) => Some(Value::Text(secret.clone())),
            Self::Field(field) => field.value(ask)?,
            Self::Structure(_) => None,
        })
    }

    /// The value for a header: what comes from a box is encoded where it could
    /// not stand there as it is.
    pub(super) fn header(&self, ask: &Ask<'_>) -> Result<Option<String>, Unaskable> {
        match self {
            Self::Field(field) => {
                let Some(value) = field.value(ask)? else {
                    return Ok(None);
                };
                let text = value.text();
                // The prefix was checked, and is told as it is.
                let (prefix, rest) = match text.strip_prefix(field.prefix.as_str()) {
                    Some(rest) => (field.prefix.as_str(), rest),
                    None => ("", text.as_str()),
                };
                Ok(Some(format!(
                    "{prefix}{}",
                    utf8_percent_encode(rest, HEADER)
                )))
            }
            Self::Constant(_) | Self::Secret(_) | Self::Structure(_) => {
                Ok(self.value(ask)?.map(Value::text))
            }
        }
    }

    /// The value for a body.
    pub(super) fn told(&self, ask: &Ask<'_>) -> Result<Option<Told<'_>>, Unaskable> {
        match self {
            Self::Structure(value) => Ok(Some(Told::Structure(value))),
            Self::Constant(_) | Self::Secret(_) | Self::Field(_) => {
                Ok(self.value(ask)?.map(Told::Value))
            }
        }
    }
}

impl ReadyField {
    fn value(&self, ask: &Ask<'_>) -> Result<Option<Value>, Unaskable> {
        let field = self.field.name();
        if !self.field.is_visible(ask.privacy) {
            return match self.is_required {
                true => Err(Unaskable::Withheld { field }),
                false => Ok(self.otherwise.clone()),
            };
        }
        let Some(value) = self.field.read(ask) else {
            return match self.is_required {
                true => Err(Unaskable::Missing { field }),
                false => Ok(self.otherwise.clone()),
            };
        };
        let value = value.formatted(self.format);
        if self.prefix.is_empty() {
            return Ok(Some(value));
        }
        Ok(Some(Value::Text(self.prefix.clone() + &value.text())))
    }
}
