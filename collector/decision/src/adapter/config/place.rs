//! Where a part of an offer stands in the answer, in which unit, and what
//! stands in for it.

use core::fmt;

use alloc::{format, string::String};
use serde::{
    Deserialize, Deserializer, de,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

use super::constant::Constant;
use crate::adapter::{decimal::scaled, pointer::Pointer};

/// A text: `"/pointer"`, or `{ pointer = …, otherwise = … }`.
#[derive(Clone, Debug)]
pub(in crate::adapter) struct TextPlace {
    pub(in crate::adapter) pointer: Option<Pointer>,
    /// Stands in where there is nothing.
    pub(in crate::adapter) otherwise: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TextTable {
    pointer: Option<Pointer>,
    otherwise: Option<String>,
}

impl<'de> Deserialize<'de> for TextPlace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextPlaceVisitor)
    }
}

struct TextPlaceVisitor;

impl<'de> Visitor<'de> for TextPlaceVisitor {
    type Value = TextPlace;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON pointer, or { pointer = …, otherwise = … }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<TextPlace, E> {
        let pointer = Pointer::parse(text)
            .map_err(|expected| E::custom(format!("{text:?}: expected {expected}")))?;
        Ok(TextPlace {
            pointer: Some(pointer),
            otherwise: String::new(),
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TextPlace, A::Error> {
        let table = TextTable::deserialize(MapAccessDeserializer::new(map))?;
        if table.pointer.is_none() && table.otherwise.is_none() {
            return Err(de::Error::custom(NOWHERE));
        }
        Ok(TextPlace {
            pointer: table.pointer,
            otherwise: table.otherwise.unwrap_or_default(),
        })
    }
}

const NOWHERE: &str = "expected pointer, otherwise, or both";

/// A duration: `{ pointer = …, unit = …, otherwise = … }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "DurationTable")]
pub(in crate::adapter) struct DurationPlace {
    pub(in crate::adapter) pointer: Option<Pointer>,
    pub(in crate::adapter) unit: DurationUnit,
    /// Stands in where there is nothing, in ms.
    pub(in crate::adapter) otherwise_ms: Option<u32>,
}

/// A price: `{ pointer = …, unit = …, otherwise = … }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "PriceTable")]
pub(in crate::adapter) struct PricePlace {
    pub(in crate::adapter) pointer: Option<Pointer>,
    pub(in crate::adapter) unit: PriceUnit,
    /// Stands in where there is nothing, in millionths for 1,000 impressions.
    pub(in crate::adapter) otherwise_micros: Option<i64>,
}

/// What a duration is counted in.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::adapter) enum DurationUnit {
    Ms,
    S,
}

/// What a price is counted in, for 1,000 impressions.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::adapter) enum PriceUnit {
    /// Whole units of the currency, with decimals.
    Cpm,
    /// Hundredths.
    CpmCents,
    /// Millionths.
    CpmMicros,
}

impl DurationUnit {
    /// Reads a duration, to the nearest ms.
    pub(in crate::adapter) fn ms(self, decimal: &str) -> Option<u32> {
        let scale = match self {
            Self::Ms => 0,
            Self::S => 3,
        };
        u32::try_from(scaled(decimal, scale)?).ok()
    }
}

impl PriceUnit {
    /// Reads a price, to the nearest millionth.
    pub(in crate::adapter) fn micros(self, decimal: &str) -> Option<i64> {
        let scale = match self {
            Self::Cpm => 6,
            Self::CpmCents => 4,
            Self::CpmMicros => 0,
        };
        let micros = scaled(decimal, scale)?;
        (0..=crate::offer::PRICE_MICROS_MAX)
            .contains(&micros)
            .then_some(micros)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DurationTable {
    pointer: Option<Pointer>,
    unit: DurationUnit,
    otherwise: Option<Constant>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PriceTable {
    pointer: Option<Pointer>,
    unit: PriceUnit,
    otherwise: Option<Constant>,
}

impl TryFrom<DurationTable> for DurationPlace {
    type Error = &'static str;

    fn try_from(table: DurationTable) -> Result<Self, Self::Error> {
        const EXPECTED: &str = "otherwise: expected a duration such as 30 or \"29.97\"";
        if table.pointer.is_none() && table.otherwise.is_none() {
            return Err(NOWHERE);
        }
        let read = |Constant(value)| table.unit.ms(&value.text()).ok_or(EXPECTED);
        Ok(Self {
            pointer: table.pointer,
            unit: table.unit,
            otherwise_ms: table.otherwise.map(read).transpose()?,
        })
    }
}

impl TryFrom<PriceTable> for PricePlace {
    type Error = &'static str;

    fn try_from(table: PriceTable) -> Result<Self, Self::Error> {
        const EXPECTED: &str = "otherwise: expected a price such as 2 or \"2.35\"";
        if table.pointer.is_none() && table.otherwise.is_none() {
            return Err(NOWHERE);
        }
        let read = |Constant(value)| table.unit.micros(&value.text()).ok_or(EXPECTED);
        Ok(Self {
            pointer: table.pointer,
            unit: table.unit,
            otherwise_micros: table.otherwise.map(read).transpose()?,
        })
    }
}
