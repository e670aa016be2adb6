//! Who may send which kinds of events, and who may follow decisions, by the
//! uid that the kernel reports for the other end of the socket. Any application
//! on the box could otherwise forge impressions, or read what is about to be
//! shown.

use std::collections::BTreeMap;

use returnpath_shared::{
    Kind,
    wire::{Event, ad_event, event},
};

use crate::config::Allowance;

/// Root's uid.
const ROOT: u32 = 0;

/// Kinds of events, as a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Kinds(u16);

impl Kinds {
    /// Every kind that clients may send.
    #[must_use]
    pub fn of_clients() -> Self {
        Kind::ALL
            .into_iter()
            .filter(|kind| !kind.is_agents_own())
            .collect()
    }

    /// Whether a client with these kinds may send an event. Never the agent's
    /// own kinds, nor what it alone says about decisions.
    #[must_use]
    pub fn allow(self, event: &Event) -> bool {
        Kind::of(event).is_some_and(|kind| self.0 & bit(kind) != 0) && !is_about_decision(event)
    }
}

/// Whether an event says what became of a decision on its way to the box, which
/// the agent alone knows.
pub(super) fn is_about_decision(event: &Event) -> bool {
    matches!(
        &event.kind,
        Some(event::Kind::AdEvent(ad)) if matches!(
            ad.kind(),
            ad_event::Kind::DecisionAcknowledged | ad_event::Kind::DecisionRefused
        )
    )
}

impl FromIterator<Kind> for Kinds {
    fn from_iter<I: IntoIterator<Item = Kind>>(kinds: I) -> Self {
        Self(kinds.into_iter().fold(0, |set, kind| set | bit(kind)))
    }
}

fn bit(kind: Kind) -> u16 {
    1 << kind as u16
}

/// What a client may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Permitted {
    /// What it may send.
    pub kinds: Kinds,
    /// Whether it may follow decisions.
    pub decisions: Follow,
}

/// Whether a client may follow decisions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Follow {
    /// It may.
    Allowed,
    /// Its uid may not.
    #[default]
    NotAllowed,
    /// This agent takes no decisions.
    NotServed,
}

impl Permitted {
    /// Everything that a client may be permitted.
    #[must_use]
    pub fn everything() -> Self {
        Self {
            kinds: Kinds::of_clients(),
            decisions: Follow::Allowed,
        }
    }
}

/// Which uid may do what.
#[derive(Clone, Debug)]
pub struct Permissions {
    own_uid: u32,
    /// Whether this agent takes decisions.
    decisions_served: bool,
    others: BTreeMap<u32, Permitted>,
}

impl Permissions {
    /// The agent's own uid and root may do what clients may; others what
    /// `allow` says. Entries of the same uid add up.
    #[must_use]
    pub fn new(own_uid: u32, allow: &[Allowance], decisions_served: bool) -> Self {
        let mut others: BTreeMap<u32, Permitted> = BTreeMap::new();
        for allowance in allow {
            let kinds: Kinds = allowance.kinds.iter().copied().collect();
            let permitted = others.entry(allowance.uid).or_default();
            permitted.kinds.0 |= kinds.0;
            if allowance.decisions {
                permitted.decisions = Follow::Allowed;
            }
        }
        Self {
            own_uid,
            decisions_served,
            others,
        }
    }

    /// What a uid may do.
    #[must_use]
    pub fn of(&self, uid: u32) -> Permitted {
        let mut permitted = if uid == self.own_uid || uid == ROOT {
            Permitted::everything()
        } else {
            self.others.get(&uid).copied().unwrap_or_default()
        };
        if !self.decisions_served {
            permitted.decisions = Follow::NotServed;
        }
        permitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use returnpath_shared::wire::{AdEvent, Boot, Ledger, Power, Tune, UncleanStop};

    fn event(kind: event::Kind) -> Event {
        Event {
            kind: Some(kind),
            ..Event::default()
        }
    }

    fn ad(kind: ad_event::Kind) -> Event {
        event(event::Kind::AdEvent(AdEvent {
            kind: kind as i32,
            ..AdEvent::default()
        }))
    }

    #[test]
    fn uids_may_send_what_they_were_given() {
        let allow = |uid, kinds: &[Kind]| Allowance {
            uid,
            kinds: kinds.to_vec(),
            decisions: uid == 8,
        };
        let permissions = Permissions::new(
            500,
            &[
                allow(7, &[Kind::Tune]),
                allow(7, &[Kind::AdEvent]),
                allow(8, &[]),
            ],
            true,
        );
        let tune = event(event::Kind::Tune(Tune::default()));
        let power = event(event::Kind::Power(Power::default()));
        let start = ad(ad_event::Kind::Start);
        for (uid, may) in [
            (0, [true, true, true]),
            (500, [true, true, true]),
            (7, [true, false, true]),
            (8, [false, false, false]),
            (9, [false, false, false]),
        ] {
            let permitted = permissions.of(uid);
            assert_eq!(
                [&tune, &power, &start].map(|event| permitted.kinds.allow(event)),
                may,
                "{uid}"
            );
            let follows = permitted.decisions == Follow::Allowed;
            assert_eq!(follows, [0, 500, 8].contains(&uid), "{uid}");
        }
    }

    #[test]
    fn nobody_may_send_what_only_the_agent_says() {
        let root = Permissions::new(500, &[], false).of(0);
        assert_eq!(root.decisions, Follow::NotServed);
        for event in [
            event(event::Kind::Boot(Boot::default())),
            event(event::Kind::Ledger(Ledger::default())),
            event(event::Kind::UncleanStop(UncleanStop::default())),
            ad(ad_event::Kind::DecisionAcknowledged),
            ad(ad_event::Kind::DecisionRefused),
            Event::default(),
        ] {
            assert!(!root.kinds.allow(&event), "{event:?}");
        }
    }
}
