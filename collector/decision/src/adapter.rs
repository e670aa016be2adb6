//! The adapter for an aggregator with an API of its own: parameters in, content
//! out, by configuration alone. A request is made of fields, constants and
//! secrets in its query, headers and JSON body; an answer is read along JSON
//! pointers.
//!
//! Owns what is told to whom and how it is encoded. What an offer is worth is
//! judged elsewhere, and nothing is sent from here.

mod answer;
mod config;
mod decimal;
mod document;
mod pointer;
mod request;
mod secret;

use alloc::{string::String, vec::Vec};

use returnpath_shared::wire::OfferRecord;
use thiserror::Error;

pub use self::config::ParametersConfig;
use self::{answer::AnswerReader, request::RequestWriter};
use crate::{
    ask::Ask,
    call::{Adapter, Request, Response, Unaskable, Unreadable},
};

/// Speaks the API that a [`ParametersConfig`] describes.
#[derive(Clone, Debug)]
pub struct ParametersAdapter {
    request: RequestWriter,
    answer: AnswerReader,
}

/// A key that does not fit with the others, or with the secrets.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{key}: expected {expected}")]
pub struct ParametersError {
    /// The key, from the adapter's own table.
    pub key: String,
    /// What was expected, for people.
    pub expected: String,
}

impl ParametersAdapter {
    /// The adapter, with the value of each secret that
    /// [`ParametersConfig::secrets`] names.
    ///
    /// # Errors
    /// Names the first key that cannot be.
    pub fn new<'s>(
        config: ParametersConfig,
        secret: impl Fn(&str) -> Option<&'s str>,
    ) -> Result<Self, ParametersError> {
        let answer = AnswerReader::new(config.response.clone())?;
        let request = RequestWriter::new(config, &secret)?;
        Ok(Self { request, answer })
    }
}

impl Adapter for ParametersAdapter {
    fn request(&self, ask: &Ask<'_>) -> Result<Request, Unaskable> {
        self.request.write(ask)
    }

    fn offers(&self, response: &Response) -> Result<Vec<OfferRecord>, Unreadable> {
        self.answer.read(response)
    }
}

fn wrong(key: impl Into<String>, expected: impl Into<String>) -> ParametersError {
    ParametersError {
        key: key.into(),
        expected: expected.into(),
    }
}

#[cfg(test)]
mod tests;
