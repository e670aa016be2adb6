//! How an aggregator behaves: what a test switches.

use std::time::Duration;

/// How an aggregator behaves towards every request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behaviour {
    /// Answers from its stock, after its latency.
    Fine,
    /// Answers from its stock, after this much on top of its latency.
    Slow(Duration),
    /// Takes connections and requests, and says nothing, not even in TLS.
    Dead,
    /// Nobody listens on its port; open connections are cut.
    Refuses,
    /// Answers with this HTTP status and no body.
    Status(u16),
    /// Answers 200 with what is no JSON.
    Garbage,
    /// Answers 200 with a body of one gibibyte, as fast as it is read.
    Huge,
    /// Answers 200 with a mebibyte of gzip that unpacks to one gibibyte.
    CompressionBomb,
    /// Redirects each request to itself.
    RedirectLoop,
    /// Answers from its stock, with numbers for texts and texts for numbers.
    WrongTypes,
    /// Answers from its stock, with numbers that nobody can mean.
    AbsurdNumbers,
}

/// What of a behaviour has taken hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Applied(bool);

impl Applied {
    pub(super) fn listening() -> Self {
        Self(true)
    }

    pub(super) fn silent() -> Self {
        Self(false)
    }

    pub(super) fn listens(self) -> bool {
        self.0
    }
}
