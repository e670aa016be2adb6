//! Walks the folder of cases; `tests/fixtures/README.md` says what they hold.

use std::{collections::BTreeMap, fs, path::Path};

use returnpath_decision::{Adapter, Method, ParametersAdapter, Request, Response};
use returnpath_shared::wire::{OfferRecord, Privacy};
use serde::Deserialize;
use serde_json::Value;

use crate::opportunity::{adapter, ask, fixtures, opportunity};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    about: String,
    opportunity: String,
    #[serde(default = "no_change")]
    change: Value,
    privacy: Privacy,
    #[serde(default)]
    slot: u32,
    #[serde(default = "half_a_minute")]
    slot_duration_ms: u32,
    request: Option<CaseRequest>,
    exclusion: Option<Exclusion>,
    answer: Option<Answer>,
    offers: Option<Vec<OfferRecord>>,
    unreadable: Option<Unreadable>,
}

fn no_change() -> Value {
    Value::Object(serde_json::Map::new())
}

fn half_a_minute() -> u32 {
    30_000
}

#[derive(Deserialize, PartialEq, Debug)]
#[serde(deny_unknown_fields)]
struct CaseRequest {
    method: Method,
    url: String,
    headers: BTreeMap<String, String>,
    body: Option<Value>,
}

#[derive(Deserialize, PartialEq, Debug)]
#[serde(deny_unknown_fields)]
struct Exclusion {
    exclusion: String,
    detail: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    status: u16,
    content_type: Option<String>,
    content_encoding: Option<String>,
    body: Option<Value>,
    text: Option<String>,
}

#[derive(Deserialize, PartialEq, Debug)]
#[serde(deny_unknown_fields)]
struct Unreadable {
    outcome: String,
    detail: String,
}

#[test]
fn every_case_of_every_aggregator_gives_its_request_and_its_offers() {
    let mut failed = Vec::new();
    let mut cases = 0;
    for folder in entries(&fixtures().join("aggregators")) {
        let configured = fs::read_to_string(folder.join("adapter.toml")).unwrap();
        let adapter =
            adapter(&configured).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for file in entries(&folder) {
            if file
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                cases += 1;
                if let Err(difference) = run(&adapter, &fs::read_to_string(&file).unwrap()) {
                    failed.push(format!("{}: {difference}", file.display()));
                }
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    assert!(cases >= 25, "only {cases} cases were found");
}

fn entries(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn run(adapter: &ParametersAdapter, text: &str) -> Result<(), String> {
    let case: Case = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let checks = usize::from(case.request.is_some() || case.exclusion.is_some())
        + usize::from(case.offers.is_some() || case.unreadable.is_some());
    if case.about.is_empty() || checks == 0 {
        return Err("a case says what it shows, and what must come of it".to_owned());
    }
    if case.answer.is_some() != (case.offers.is_some() || case.unreadable.is_some()) {
        return Err("an answer goes with offers or unreadable".to_owned());
    }

    let opportunity = opportunity(&case.opportunity, &case.change);
    let mut ask = ask(&opportunity, case.privacy);
    ask.slot = case.slot;
    ask.slot_duration_ms = case.slot_duration_ms;
    let made = adapter.request(&ask);
    match (made, case.exclusion) {
        (Ok(made), None) => {
            if let Some(expected) = case.request {
                same(&shown(&made), &expected)?;
            }
        }
        (Err(error), Some(expected)) => {
            let made = Exclusion {
                exclusion: error.exclusion().as_str_name().to_owned(),
                detail: error.to_string(),
            };
            same(&made, &expected)?;
        }
        (Ok(_), Some(expected)) => return Err(format!("asked, expected {expected:?}")),
        (Err(error), None) => return Err(format!("not asked: {error}")),
    }

    let Some(answer) = case.answer else {
        return Ok(());
    };
    match (adapter.offers(&response(answer)), case.unreadable) {
        (Ok(offers), None) => same(&offers, &case.offers.unwrap_or_default()),
        (Err(error), Some(expected)) => {
            let read = Unreadable {
                outcome: error.outcome().as_str_name().to_owned(),
                detail: error.to_string(),
            };
            same(&read, &expected)
        }
        (Ok(offers), Some(expected)) => Err(format!("read {offers:?}, expected {expected:?}")),
        (Err(error), None) => Err(format!("not read: {error}")),
    }
}

fn shown(request: &Request) -> CaseRequest {
    let body = request.body.as_ref();
    let headers: BTreeMap<_, _> = request.headers.iter().cloned().collect();
    assert_eq!(headers.len(), request.headers.len(), "a header came twice");
    CaseRequest {
        method: request.method,
        url: request.url.clone(),
        headers,
        body: body.map(|body| serde_json::from_slice(body).unwrap()),
    }
}

fn response(answer: Answer) -> Response {
    let body = match (answer.body, answer.text) {
        (Some(body), None) => body.to_string(),
        (None, text) => text.unwrap_or_default(),
        (Some(_), Some(_)) => panic!("an answer has either a body or a text"),
    };
    Response {
        status: answer.status,
        content_type: answer.content_type,
        content_encoding: answer.content_encoding,
        body: body.into(),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(made: &T, expected: &T) -> Result<(), String> {
    if made == expected {
        return Ok(());
    }
    Err(format!("\nmade     {made:#?}\nexpected {expected:#?}"))
}
