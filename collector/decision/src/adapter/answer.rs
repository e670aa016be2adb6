//! Reads an answer: what its status says, where its offers stand, what each of
//! them holds. One offer that cannot be read leaves the others as they are.

use alloc::{
    borrow::ToOwned as _,
    format,
    string::{String, ToString},
    vec::Vec,
};

use returnpath_shared::wire::{Offer, OfferFault, OfferRecord};

use super::{
    ParametersError,
    config::{OFFER_PARTS, OfferConfig, ResponseConfig, TextPlace},
    document::{Kind, Node},
    pointer::Pointer,
    wrong,
};
use crate::{
    call::{Response, Unreadable},
    offer::{OFFERS_MAX, bound_detail, bound_texts, essence},
};

/// How answers are read.
#[derive(Clone, Debug)]
pub(super) struct AnswerReader {
    config: ResponseConfig,
    /// The first steps from an offer to its parts, each once: so all of them
    /// are found in one reading of the offer.
    first_steps: Vec<String>,
}

impl AnswerReader {
    pub(super) fn new(config: ResponseConfig) -> Result<Self, ParametersError> {
        if config.offer_statuses.is_empty() {
            return Err(wrong("response.offer_statuses", "at least one status"));
        }
        for (key, statuses) in [
            ("response.offer_statuses", &config.offer_statuses),
            ("response.no_bid_statuses", &config.no_bid_statuses),
        ] {
            if !statuses.iter().all(|status| (200..=599).contains(status)) {
                return Err(wrong(key, "statuses from 200 to 599"));
            }
        }
        let mut no_bid = config.no_bid_statuses.iter();
        if no_bid.any(|status| config.offer_statuses.contains(status)) {
            let expected = "other statuses than offer_statuses";
            return Err(wrong("response.no_bid_statuses", expected));
        }
        let mut first_steps: Vec<String> = Vec::new();
        for step in config.offer.pointers().filter_map(|at| at.steps().first()) {
            if !first_steps.contains(step) {
                first_steps.push(step.clone());
            }
        }
        Ok(Self {
            config,
            first_steps,
        })
    }

    pub(super) fn read(&self, response: &Response) -> Result<Vec<OfferRecord>, Unreadable> {
        let status = response.status;
        if self.config.no_bid_statuses.contains(&status) {
            return Ok(Vec::new());
        }
        if !self.config.offer_statuses.contains(&status) {
            let known = self
                .config
                .offer_statuses
                .iter()
                .chain(&self.config.no_bid_statuses);
            let known: Vec<String> = known.map(ToString::to_string).collect();
            let expected = known.join(" or ");
            return Err(Unreadable::Status { status, expected });
        }
        check_headers(response)?;
        let root =
            Node::parse(&response.body).ok_or_else(|| unreadable("body", "one JSON document"))?;
        self.offers(root)
    }

    fn offers(&self, root: Node<'_>) -> Result<Vec<OfferRecord>, Unreadable> {
        let pointer = &self.config.offers;
        let place = match pointer.steps() {
            [] => "body".to_owned(),
            _ => pointer.to_string(),
        };
        let expected = "an object or a list";
        if !matches!(root.kind(), Kind::Object | Kind::List | Kind::Null) {
            return Err(unreadable("body", expected));
        }
        let Some(offers) = root.at(pointer.steps()) else {
            return match self.config.absent_is_no_bid {
                true => Ok(Vec::new()),
                false => Err(unreadable(&place, expected)),
            };
        };
        match offers.kind() {
            Kind::Object => Ok(Vec::from([self.offer(offers, &pointer.to_string())])),
            Kind::List => {
                let items = offers.items(OFFERS_MAX).into_iter().enumerate();
                Ok(items
                    .map(|(index, item)| self.offer(item, &format!("{pointer}/{index}")))
                    .collect())
            }
            Kind::Null | Kind::Flag | Kind::Number | Kind::Text => {
                Err(unreadable(&place, expected))
            }
        }
    }

    /// One offer, with all of it that can be read.
    fn offer(&self, node: Node<'_>, place: &str) -> OfferRecord {
        let config = &self.config.offer;
        let mut found = [None; OFFER_PARTS];
        node.step(&self.first_steps, &mut found);
        let mut reading = Reading {
            node,
            first_steps: &self.first_steps,
            found,
            place,
            fault: None,
        };
        if node.kind() != Kind::Object && node.kind() != Kind::List {
            reading.fault(None, "an object");
        }
        let mut offer = reading.read(config);
        if let Err(fault) = bound_texts(&mut offer) {
            let pointer = place_of(config, fault.name).and_then(|place| place.pointer.as_ref());
            reading.fault(pointer, &fault.expected);
        }
        let mut record = OfferRecord {
            offer: Some(offer),
            ..OfferRecord::default()
        };
        if let Some(detail) = reading.fault {
            record.set_fault(OfferFault::Field);
            record.detail = bound_detail(detail);
        }
        record
    }
}

/// One offer being read: keeps the first thing that is wrong.
struct Reading<'a> {
    node: Node<'a>,
    first_steps: &'a [String],
    /// What is behind each of them.
    found: [Option<Node<'a>>; OFFER_PARTS],
    place: &'a str,
    fault: Option<String>,
}

impl<'a> Reading<'a> {
    fn read(&mut self, config: &OfferConfig) -> Offer {
        let optional = |place: &Option<TextPlace>, reading: &mut Self| match place {
            Some(place) => reading.text(place),
            None => String::new(),
        };
        Offer {
            offer_id: optional(&config.offer_id, self),
            creative_id: self.text(&config.creative_id),
            url: self.text(&config.url),
            media_type: self.text(&config.media_type),
            duration_ms: {
                let place = &config.duration;
                let expected = "a duration of less than 2^32 ms";
                let read = |decimal: &str| place.unit.ms(decimal);
                let found = self.decimal(place.pointer.as_ref(), expected, read);
                // 0 is no duration, and judged as such.
                found.unwrap_or(place.otherwise_ms).unwrap_or_default()
            },
            price_micros: config.price.as_ref().and_then(|place| {
                let expected = "a price from 0 to a million units";
                let read = |decimal: &str| place.unit.micros(decimal);
                let found = self.decimal(place.pointer.as_ref(), expected, read);
                found.unwrap_or(place.otherwise_micros)
            }),
            currency: optional(&config.currency, self),
            advertiser: optional(&config.advertiser, self),
        }
    }

    /// A text; whole numbers count as such, for ids.
    fn text(&mut self, place: &TextPlace) -> String {
        let found = place.pointer.as_ref().and_then(|at| self.at(at));
        let text = match found {
            None => Some(String::new()),
            Some(found) => match found.number() {
                Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                    Some(digits.to_owned())
                }
                _ => found.text(),
            },
        };
        if text.is_none() {
            self.fault(place.pointer.as_ref(), "text");
        }
        match text {
            Some(text) if text.is_empty() => place.otherwise.clone(),
            Some(text) => text,
            None => String::new(),
        }
    }

    /// A decimal number, as such or as text. `Err` where there is nothing;
    /// what is wrong is a fault, and has no value.
    fn decimal<T>(
        &mut self,
        pointer: Option<&Pointer>,
        expected: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Nothing> {
        let found = pointer.and_then(|at| self.at(at)).ok_or(Nothing)?;
        let value = match found.number() {
            Some(digits) => read(digits),
            None => found.text().and_then(|text| read(&text)),
        };
        if value.is_none() {
            self.fault(pointer, expected);
        }
        Ok(value)
    }

    /// The value at a pointer of the configuration.
    fn at(&self, pointer: &Pointer) -> Option<Node<'a>> {
        let Some((first, rest)) = pointer.steps().split_first() else {
            return self.node.at(&[]);
        };
        let place = self.first_steps.iter().position(|step| step == first)?;
        self.found[place]?.at(rest)
    }

    fn fault(&mut self, pointer: Option<&Pointer>, expected: &str) {
        let pointer = pointer.map(ToString::to_string).unwrap_or_default();
        let place = match (self.place, pointer.as_str()) {
            ("", "") => "body",
            (place, _) => place,
        };
        self.fault
            .get_or_insert_with(|| format!("{place}{pointer}: expected {expected}"));
    }
}

/// The answer has nothing in a place.
struct Nothing;

/// Where a text of an offer stands, by its name in the message.
fn place_of<'c>(config: &'c OfferConfig, name: &str) -> Option<&'c TextPlace> {
    match name {
        "offer_id" => config.offer_id.as_ref(),
        "creative_id" => Some(&config.creative_id),
        "url" => Some(&config.url),
        "media_type" => Some(&config.media_type),
        "currency" => config.currency.as_ref(),
        "advertiser" => config.advertiser.as_ref(),
        _ => None,
    }
}

fn check_headers(response: &Response) -> Result<(), Unreadable> {
    let encoding = response.content_encoding.as_deref().unwrap_or_default();
    if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity") {
        return Err(unreadable("content-encoding", "identity"));
    }
    let media_type = essence(response.content_type.as_deref().unwrap_or_default());
    // Source: RFC 6839, section 3.1 (the suffix).
    let is_json = media_type == "application/json"
        || (media_type.starts_with("application/") && media_type.ends_with("+json"));
    if !is_json {
        return Err(unreadable("content-type", "application/json"));
    }
    Ok(())
}

fn unreadable(place: &str, expected: &str) -> Unreadable {
    Unreadable::Form {
        place: place.to_owned(),
        expected: expected.to_owned(),
    }
}
