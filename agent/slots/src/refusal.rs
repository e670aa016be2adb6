//! Why a decision is not taken, and how often that happened.

use alloc::string::String;

/// Why a decision was refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Refusal {
    /// Not signed by a key that the box trusts.
    Forged,
    /// Past its expiry, or of another boot.
    Expired,
    /// Handed over before, and expired since.
    Replayed,
    /// Its slot is bound to another decision.
    Superseded,
    /// Signed for another box.
    Foreign,
    /// Cannot be read, or a field of it is not as it must be.
    Malformed,
    /// Its slot cannot be bound: the medium fails, or as many are bound as may
    /// be.
    Unstored,
    /// More came than the box looks into; it is not known what it was.
    TooMany,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Self; 8] = [
        Self::Forged,
        Self::Expired,
        Self::Replayed,
        Self::Superseded,
        Self::Foreign,
        Self::Malformed,
        Self::Unstored,
        Self::TooMany,
    ];

    /// As health events and ad events name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Forged => "forged",
            Self::Expired => "expired",
            Self::Replayed => "replayed",
            Self::Superseded => "superseded",
            Self::Foreign => "foreign",
            Self::Malformed => "malformed",
            Self::Unstored => "unstored",
            Self::TooMany => "too_many",
        }
    }

    /// Whether the cloud is told of the decision itself. Only of the operator's
    /// own for this box: what is forged or foreign is not ours to answer, what
    /// is malformed names nothing to answer about, and what is unstored may
    /// still be stored when it comes again.
    #[must_use]
    pub fn is_told(self) -> bool {
        matches!(self, Self::Expired | Self::Replayed | Self::Superseded)
    }
}

/// A decision that was refused, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// In which respect it is wrong.
    pub reason: Refusal,
    /// The decision; empty where nothing vouches for its id.
    pub decision_id: String,
    /// What was expected.
    pub expected: &'static str,
    /// Whether the cloud is told of it, for the first time.
    pub is_told: bool,
}
