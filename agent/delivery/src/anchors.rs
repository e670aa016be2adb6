//! Clock anchors: one for each boot of which batches are held, so that the
//! cloud can tell the time of events whose boot has long ended. At most
//! `ANCHORS_MAX`: a box that restarts more often offline has its oldest times
//! bounded instead of exact.

use alloc::vec::Vec;

use returnpath_shared::{ANCHORS_MAX, wire::ClockAnchor};

use crate::{Op, Uptime};

/// An anchor is written again when the clock has moved this far against
/// uptime since: far above drift within a day, far below what matters.
const REWRITE_MS: u64 = 1_000;

#[derive(Debug)]
pub(crate) struct Anchors {
    /// Oldest boot first.
    anchors: Vec<ClockAnchor>,
    changed: Vec<u64>,
    removed: Vec<u64>,
}

impl Anchors {
    pub(crate) fn new(recovered: Vec<ClockAnchor>) -> Self {
        let mut anchors = Self {
            anchors: recovered,
            changed: Vec::new(),
            removed: Vec::new(),
        };
        anchors.shrink();
        anchors
    }

    /// The clock is synchronised. True when this boot had no anchor yet.
    pub(crate) fn synchronised(&mut self, boot_id: u64, now: Uptime, unix_ms: i64) -> bool {
        let anchor = ClockAnchor {
            boot_id,
            uptime_ms: now.0,
            unix_ms,
        };
        let known = self
            .anchors
            .iter_mut()
            .find(|known| known.boot_id == boot_id);
        if let Some(known) = known {
            if origin(known).abs_diff(origin(&anchor)) > REWRITE_MS {
                *known = anchor;
                self.changed.push(boot_id);
            }
            return false;
        }
        self.anchors.push(anchor);
        self.changed.push(boot_id);
        self.shrink();
        true
    }

    /// Forgets boots of which nothing is held.
    pub(crate) fn retain(&mut self, is_held: impl Fn(u64) -> bool) {
        let removed = &mut self.removed;
        self.anchors.retain(|anchor| {
            let stays = is_held(anchor.boot_id);
            if !stays {
                removed.push(anchor.boot_id);
            }
            stays
        });
    }

    /// All of them, for a boot event.
    pub(crate) fn all(&self) -> Vec<ClockAnchor> {
        self.anchors.clone()
    }

    pub(crate) fn take_ops(&mut self, ops: &mut Vec<Op>) {
        for boot_id in core::mem::take(&mut self.removed) {
            ops.push(Op::AnchorDelete { boot_id });
        }
        for boot_id in core::mem::take(&mut self.changed) {
            let anchor = self.anchors.iter().find(|anchor| anchor.boot_id == boot_id);
            ops.extend(anchor.map(|anchor| Op::AnchorPut(*anchor)));
        }
    }

    /// A commit did not happen, or the file is another: write all again.
    pub(crate) fn rewrite(&mut self) {
        self.changed = self.anchors.iter().map(|anchor| anchor.boot_id).collect();
    }

    fn shrink(&mut self) {
        let excess = self.anchors.len().saturating_sub(ANCHORS_MAX);
        let removed = self.anchors.drain(..excess).map(|anchor| anchor.boot_id);
        self.removed.extend(removed);
    }
}

/// Wall clock at uptime 0.
fn origin(anchor: &ClockAnchor) -> i64 {
    anchor.unix_ms.saturating_sub_unsigned(anchor.uptime_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn ops(anchors: &mut Anchors) -> Vec<Op> {
        let mut ops = vec![];
        anchors.take_ops(&mut ops);
        ops
    }

    #[test]
    fn a_boot_has_one_anchor_written_again_only_when_the_clock_was_stepped() {
        let mut anchors = Anchors::new(vec![]);
        assert!(anchors.synchronised(1, Uptime(1_000), 50_000));
        assert_eq!(ops(&mut anchors).len(), 1);
        assert!(!anchors.synchronised(1, Uptime(2_000), 51_500));
        assert_eq!(ops(&mut anchors), []);
        assert!(!anchors.synchronised(1, Uptime(3_000), 99_000));
        assert!(matches!(
            ops(&mut anchors)[..],
            [Op::AnchorPut(ClockAnchor {
                unix_ms: 99_000,
                ..
            })]
        ));
        assert_eq!(anchors.all().len(), 1);
    }

    #[test]
    fn boots_without_batches_are_forgotten_and_the_rest_is_bounded() {
        let mut anchors = Anchors::new(vec![]);
        for boot_id in 1..=70 {
            anchors.synchronised(boot_id, Uptime(0), 0);
        }
        assert_eq!(anchors.all().len(), ANCHORS_MAX);
        assert_eq!(anchors.all()[0].boot_id, 7);
        anchors.retain(|boot_id| boot_id == 70);
        let ops = ops(&mut anchors);
        let deletes = ops
            .iter()
            .filter(|op| matches!(op, Op::AnchorDelete { .. }));
        assert_eq!(deletes.count(), 69);
        assert_eq!(anchors.all().len(), 1);
    }
}
