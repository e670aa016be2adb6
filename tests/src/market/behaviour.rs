//! How an aggregator behaves: what a test switches.

use std::time::Duration;

use crate::pki::Flaw;

/// How an aggregator behaves towards every request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behaviour {
    /// Answers from its stock, after its latency.
    Fine,
    /// Answers from its stock, after this much on top of its latency.
    Slow(Duration),
    /// Takes requests and keeps them, until it behaves otherwise: then it
    /// answers them so.
    Holds,
    /// Takes connections and requests, and says nothing, not even in TLS.
    Dead,
    /// Nobody listens on its port; open connections are cut.
    Refuses,
    /// Shows this certificate; open connections are cut.
    Shows(Flaw),
    /// Speaks no TLS; open connections are cut.
    NoTls,
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

impl Behaviour {
    /// Whether it shows before anything is asked, so that connections which
    /// stand would hide it.
    pub(super) fn shows_in_connecting(self) -> bool {
        matches!(self, Self::Refuses | Self::Shows(_) | Self::NoTls)
    }
}

/// What of a behaviour has taken hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Applied {
    /// Nobody listens.
    #[default]
    Silent,
    /// Whoever connects or asks is met so.
    Listening(Behaviour),
}

impl Applied {
    pub(super) fn is(self, behaviour: Behaviour) -> bool {
        match self {
            Self::Silent => behaviour == Behaviour::Refuses,
            Self::Listening(now) => now == behaviour,
        }
    }
}
