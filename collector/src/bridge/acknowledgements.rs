//! Which PUBLISH of one connection is acknowledged when.
//!
//! Pure: the time is an argument. MQTT wants acknowledgements in the order of
//! arrival (MQTT-4.6.0-2), so one that is not settled holds back those behind
//! it, until its deadline: then it is acknowledged all the same, and only the
//! receipt stays away. Tickets name their connection: what is settled after a
//! reconnect acknowledges nothing, since the packet id may belong to another
//! batch by then.

use std::{
    collections::VecDeque,
    num::NonZeroU16,
    time::{Duration, Instant},
};

/// Names one PUBLISH of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ticket {
    connection: u64,
    place: u64,
}

/// Whether an acknowledgement waited for what it acknowledges.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Acknowledged {
    /// The batch was settled before.
    Settled,
    /// The deadline came first.
    AtDeadline,
}

/// Acknowledgements that one connection still owes its broker. Whoever reads
/// from the connection stops at [`is_full`](Self::is_full), so there are never
/// more than the receive maximum and what one read brings.
#[derive(Debug)]
pub(super) struct Acknowledgements {
    connection: u64,
    deadline: Duration,
    waiting_max: usize,
    /// Place of the first one waiting.
    first: u64,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    packet_id: u16,
    deadline: Instant,
    settled: bool,
}

impl Acknowledgements {
    /// None owed. `connection` must differ from that of every other.
    pub(super) fn new(connection: u64, deadline: Duration, receive_maximum: NonZeroU16) -> Self {
        Self {
            connection,
            deadline,
            waiting_max: receive_maximum.get().into(),
            first: 0,
            waiting: VecDeque::new(),
        }
    }

    /// A PUBLISH of QoS 1 has arrived.
    pub(super) fn received(&mut self, packet_id: u16, now: Instant) -> Ticket {
        let place = self.first + self.waiting.len() as u64;
        self.waiting.push_back(Waiting {
            packet_id,
            deadline: now + self.deadline,
            settled: false,
        });
        Ticket {
            connection: self.connection,
            place,
        }
    }

    /// The batch needs no more waiting. Does nothing for a ticket that was
    /// acknowledged at its deadline, or of another connection.
    pub(super) fn settled(&mut self, ticket: Ticket) {
        if ticket.connection != self.connection {
            return;
        }
        let Some(position) = ticket.place.checked_sub(self.first) else {
            return;
        };
        if let Ok(position) = usize::try_from(position)
            && let Some(waiting) = self.waiting.get_mut(position)
        {
            waiting.settled = true;
        }
    }

    /// The next packet id to acknowledge, in order of arrival.
    pub(super) fn take(&mut self, now: Instant) -> Option<(u16, Acknowledged)> {
        let head = self.waiting.front()?;
        let acknowledged = if head.settled {
            Acknowledged::Settled
        } else if head.deadline <= now {
            Acknowledged::AtDeadline
        } else {
            return None;
        };
        let head = self.waiting.pop_front()?;
        self.first += 1;
        Some((head.packet_id, acknowledged))
    }

    /// When the next one is acknowledged at the latest.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.front().map(|head| head.deadline)
    }

    /// Whether the receive maximum is reached. A broker should send no more
    /// then, but one did (Mosquitto 2.0): so nothing more is read, which is
    /// over by the deadline of the oldest at the latest.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= self.waiting_max
    }

    /// Whether none is owed.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(1);

    fn owed_on(connection: u64) -> Acknowledgements {
        Acknowledgements::new(connection, DEADLINE, NonZeroU16::new(3).unwrap())
    }

    #[test]
    fn acknowledgements_go_in_order_of_arrival() {
        let now = Instant::now();
        let mut owed = owed_on(1);
        let first = owed.received(7, now);
        let second = owed.received(3, now);
        owed.settled(second);
        assert_eq!(owed.take(now), None);
        owed.settled(first);
        assert_eq!(owed.take(now), Some((7, Acknowledged::Settled)));
        assert_eq!(owed.take(now), Some((3, Acknowledged::Settled)));
        assert!(owed.is_empty());
    }

    #[test]
    fn one_that_is_never_settled_holds_back_the_rest_until_its_deadline() {
        let now = Instant::now();
        let mut owed = owed_on(1);
        let stuck = owed.received(1, now);
        let ticket = owed.received(2, now + DEADLINE / 2);
        owed.settled(ticket);
        assert_eq!(owed.next_deadline(), Some(now + DEADLINE));
        assert_eq!(owed.take(now + DEADLINE / 2), None);
        let late = now + DEADLINE;
        assert_eq!(owed.take(late), Some((1, Acknowledged::AtDeadline)));
        assert_eq!(owed.take(late), Some((2, Acknowledged::Settled)));
        owed.settled(stuck);
        assert_eq!(owed.take(late), None);
    }

    #[test]
    fn a_ticket_of_a_former_connection_acknowledges_nothing() {
        let now = Instant::now();
        let mut former = owed_on(1);
        let ticket = former.received(5, now);
        let mut owed = owed_on(2);
        owed.received(5, now);
        owed.settled(ticket);
        assert_eq!(owed.take(now), None);
    }

    #[test]
    fn the_receive_maximum_is_reached_until_the_oldest_is_acknowledged() {
        let now = Instant::now();
        let mut owed = owed_on(1);
        for packet_id in 1..=3 {
            assert!(!owed.is_full());
            owed.received(packet_id, now);
        }
        assert!(owed.is_full());
        assert!(owed.take(now + DEADLINE).is_some());
        assert!(!owed.is_full());
    }

    proptest! {
        #[test]
        fn each_is_acknowledged_once_in_order_and_by_its_deadline(
            steps in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>(), 0..300_u64), 1..200)
        ) {
            let mut now = Instant::now();
            let mut owed = owed_on(1);
            let mut tickets = Vec::new();
            let mut arrived = Vec::new();
            let mut acknowledged = Vec::new();
            for (arrives, which, pause_ms) in steps {
                if arrives || tickets.is_empty() {
                    let packet_id = u16::try_from(tickets.len()).unwrap() + 1;
                    tickets.push(owed.received(packet_id, now));
                    arrived.push(now);
                } else {
                    owed.settled(*which.get(&tickets));
                }
                now += Duration::from_millis(pause_ms);
                while let Some((packet_id, _)) = owed.take(now) {
                    acknowledged.push(packet_id);
                }
                let in_order: Vec<u16> = (1..).take(acknowledged.len()).collect();
                prop_assert_eq!(&acknowledged, &in_order);
                for waiting in arrived.iter().skip(acknowledged.len()) {
                    prop_assert!(*waiting + DEADLINE > now);
                }
            }
        }
    }
}
