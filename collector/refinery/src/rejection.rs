//! What is wrong with a batch or an event, for `rp.rejected`.

use alloc::borrow::Cow;

use returnpath_shared::wire::RejectionReason;

/// Why something is rejected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Rejection {
    pub(crate) reason: RejectionReason,
    /// Names the field and what was expected; for people.
    pub(crate) detail: Cow<'static, str>,
}

impl Rejection {
    pub(crate) fn new(reason: RejectionReason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }
}
