//! Makes the request: fills its query, headers and body with what may be told.

mod body;
mod ready;

use alloc::{
    collections::BTreeSet,
    format,
    string::{String, ToString as _},
    vec::Vec,
};

use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

use self::{body::Body, ready::Ready};
use super::{
    ParametersError,
    config::{Parameter, ParametersConfig, Source},
    wrong,
};
use crate::{
    ask::Ask,
    call::{Method, Request, Unaskable},
};

/// Parameters in each of query, headers and body: bounds the request. Servers
/// commonly take some 100 headers and 8 KiB of URL.
const PARAMETERS_MAX: usize = 64;

/// All but the unreserved characters.
/// Source: RFC 3986, section 2.3.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What cannot stand in a header as it is, with the percent sign, so that the
/// value can be told back.
const HEADER: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

/// Headers that the connection or the body decides.
const NOT_SET: [&str; 13] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Everything of a request but the context.
#[derive(Clone, Debug)]
pub(super) struct RequestWriter {
    method: Method,
    /// With what of the query the configuration's URL has.
    url: String,
    /// Names encoded, in their order.
    query: Vec<(String, Ready)>,
    headers: Vec<(String, Ready)>,
    body: Option<Body>,
}

impl RequestWriter {
    pub(super) fn new<'s>(
        config: ParametersConfig,
        secret: &dyn Fn(&str) -> Option<&'s str>,
    ) -> Result<Self, ParametersError> {
        for (key, count) in [
            ("query", config.query.len()),
            ("headers", config.headers.len()),
            ("body", config.body.len()),
        ] {
            if count > PARAMETERS_MAX {
                return Err(wrong(key, format!("at most {PARAMETERS_MAX} parameters")));
            }
        }
        if config.method == Method::Get && !config.body.is_empty() {
            return Err(wrong("body", "none with GET; use POST"));
        }
        let ready = |key: String, parameter: Parameter| {
            if let Source::Field(field) = &parameter.source
                && !config.sees.contains(field)
            {
                let expected = format!("a field that `sees` names, and {} is not", field.name());
                return Err(wrong(format!("{key}.field"), expected));
            }
            Ready::new(&key, parameter, secret)
        };
        let mut query = Vec::new();
        for (name, parameter) in config.query {
            let key = format!("query.{name}");
            let ready = ready(key.clone(), parameter)?;
            ready.check_single(&key)?;
            query.push((utf8_percent_encode(&name, QUERY).to_string(), ready));
        }
        let mut headers = Vec::new();
        let mut seen = BTreeSet::new();
        for (name, parameter) in config.headers {
            let key = format!("headers.{name}");
            let name = header_name(&name).map_err(|expected| wrong(key.clone(), expected))?;
            if !seen.insert(name.clone()) {
                return Err(wrong(key, "each name once, in whatever case"));
            }
            let ready = ready(key.clone(), parameter)?;
            ready.check_single(&key)?;
            ready.check_header(&key)?;
            headers.push((name, ready));
        }
        if !seen.contains("accept") {
            headers.push(("accept".into(), Ready::text("application/json")));
        }
        let mut members = Vec::new();
        for (pointer, parameter) in config.body {
            let ready = ready(format!("body.{pointer}"), parameter)?;
            members.push((pointer, ready));
        }
        let body = match members.is_empty() {
            true => None,
            false => Some(Body::new(members)?),
        };
        if body.is_some() {
            headers.push(("content-type".into(), Ready::text("application/json")));
        }
        headers.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(Self {
            method: config.method,
            url: config.url.into(),
            query,
            headers,
            body,
        })
    }

    pub(super) fn write(&self, ask: &Ask<'_>) -> Result<Request, Unaskable> {
        let mut url = self.url.clone();
        let mut separator = match url.contains('?') {
            true if url.ends_with(['?', '&']) => "",
            true => "&",
            false => "?",
        };
        for (name, ready) in &self.query {
            if let Some(value) = ready.value(ask)? {
                url.push_str(separator);
                separator = "&";
                url.push_str(name);
                url.push('=');
                url.extend(utf8_percent_encode(&value.text(), QUERY));
            }
        }
        let mut headers = Vec::with_capacity(self.headers.len());
        for (name, ready) in &self.headers {
            if let Some(value) = ready.header(ask)? {
                headers.push((name.clone(), value));
            }
        }
        let body = match &self.body {
            Some(body) => Some(Bytes::from(body.json(ask)?)),
            None => None,
        };
        Ok(Request {
            method: self.method,
            url,
            headers,
            body,
        })
    }
}

/// The name in lower case.
/// Source: RFC 9110, section 5.6.2 (token).
fn header_name(name: &str) -> Result<String, &'static str> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err("a header's name such as x-api-key");
    }
    let name = name.to_ascii_lowercase();
    if NOT_SET.contains(&name.as_str()) {
        return Err("a header that neither the connection nor the body decides");
    }
    Ok(name)
}
