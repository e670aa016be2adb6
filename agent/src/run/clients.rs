//! Between the socket and the delivery core: what clients ask for, and the
//! answers that come later.

use std::collections::BTreeMap;

use returnpath_delivery::{Acceptance, Answer as LaterAnswer, ClientToken, FirstAnswer, Uptime};

use super::Agent;
use crate::intake::{Answer, Incoming, Refusal, RefusalReason, Reply, Request};

/// Clients that wait for `durable`.
#[derive(Debug, Default)]
pub(super) struct Clients {
    /// Bounded by the unanswered requests that clients may have.
    waiting: BTreeMap<ClientToken, Reply>,
    last_token: u64,
}

impl Clients {
    /// Answers the client that waits by this token; the agent's own events have
    /// none.
    pub(super) fn answer(&mut self, token: ClientToken, answer: &LaterAnswer) {
        let Some(reply) = self.waiting.remove(&token) else {
            return;
        };
        reply.send(&match *answer {
            LaterAnswer::Durable { epoch, ordinal } => Answer::Durable(epoch, ordinal),
            LaterAnswer::AcceptedOnly { epoch, ordinal } => Answer::Accepted(epoch, ordinal),
        });
    }
}

impl Agent {
    /// Names a request towards the core, a client's or the agent's own.
    pub(super) fn token(&mut self) -> ClientToken {
        self.clients.last_token += 1;
        ClientToken(self.clients.last_token)
    }

    pub(super) fn request(&mut self, incoming: Incoming, now: Uptime) {
        let Incoming { request, reply } = incoming;
        let event = match request {
            Request::Event(event) => *event,
            Request::Status => {
                let report = self.report(now);
                reply.send(&Answer::Report(report));
                return;
            }
            Request::FollowDecisions => {
                self.decisions.follow(reply, now);
                return;
            }
        };
        let asked = self.decisions.asked(&event);
        let token = self.token();
        match self.delivery.accept(event, token, now) {
            Acceptance::Accepted { epoch, ordinal } => {
                reply.send(&Answer::Accepted(epoch, ordinal));
                if let Some(asked) = asked {
                    self.decisions.slots.asked(asked, now.0);
                }
            }
            Acceptance::Pending { .. } => {
                self.clients.waiting.insert(token, reply);
            }
            Acceptance::Repeated {
                epoch,
                ordinal,
                answer,
            } => reply.send(&match answer {
                FirstAnswer::Accepted => Answer::Accepted(epoch, ordinal),
                FirstAnswer::Durable => Answer::Durable(epoch, ordinal),
            }),
            Acceptance::Busy => reply.send(&Answer::Busy),
            Acceptance::TooLarge { length, length_max } => {
                let reason = RefusalReason::TooLarge;
                self.intake.counters().refuse(reason);
                reply.send(&Answer::Refused(Refusal {
                    reason,
                    field: Some("event".into()),
                    expected: Some(format!(
                        "at most {length_max} bytes encoded, these are {length}"
                    )),
                }));
            }
        }
    }
}
