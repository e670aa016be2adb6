//! What to do after Kafka refused a step of a transaction. Pure.

use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// The same call again: nothing is known to have failed.
    Retry,
    /// Abort the transaction, undo what it did, read its input again.
    Abort,
    /// The producer is of no further use, or nobody knows what became of the
    /// transaction: drop everything in memory and load it from Kafka.
    Rebuild,
}

/// What librdkafka says about an error.
#[derive(Clone, Copy, Debug)]
struct Traits {
    is_fatal: bool,
    requires_abort: bool,
    is_retriable: bool,
}

/// The verdict on an error of the transactional producer.
pub(super) fn classify(error: &KafkaError) -> Verdict {
    if let KafkaError::Transaction(error) = error {
        return judge(Traits {
            is_fatal: error.is_fatal(),
            requires_abort: error.txn_requires_abort(),
            is_retriable: error.is_retriable(),
        });
    }
    match error.rdkafka_error_code() {
        // The local queue is full, or the flush before the commit ran out of
        // time: the commit has not been asked for.
        Some(RDKafkaErrorCode::QueueFull | RDKafkaErrorCode::OperationTimedOut) => Verdict::Retry,
        // A record of this transaction failed before: it can only be aborted.
        Some(RDKafkaErrorCode::State | RDKafkaErrorCode::PurgeQueue) => Verdict::Abort,
        _ => Verdict::Rebuild,
    }
}

fn judge(traits: Traits) -> Verdict {
    if traits.is_fatal {
        Verdict::Rebuild
    } else if traits.requires_abort {
        Verdict::Abort
    } else if traits.is_retriable {
        Verdict::Retry
    } else {
        // Not foreseen by librdkafka's manual. Loading everything again is
        // right whatever happened.
        Verdict::Rebuild
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_error_is_judged_by_the_worst_of_its_traits() {
        for (is_fatal, requires_abort, is_retriable, verdict) in [
            (true, true, true, Verdict::Rebuild),
            (true, false, true, Verdict::Rebuild),
            (true, false, false, Verdict::Rebuild),
            (false, true, true, Verdict::Abort),
            (false, true, false, Verdict::Abort),
            (false, false, true, Verdict::Retry),
            (false, false, false, Verdict::Rebuild),
        ] {
            let traits = Traits {
                is_fatal,
                requires_abort,
                is_retriable,
            };
            assert_eq!(judge(traits), verdict, "{traits:?}");
        }
    }

    #[test]
    fn errors_outside_of_transaction_calls_are_judged_by_their_code() {
        use RDKafkaErrorCode as Code;

        for (error, verdict) in [
            (KafkaError::Flush(Code::OperationTimedOut), Verdict::Retry),
            (
                KafkaError::MessageProduction(Code::QueueFull),
                Verdict::Retry,
            ),
            (KafkaError::MessageProduction(Code::State), Verdict::Abort),
            (KafkaError::MessageProduction(Code::Fatal), Verdict::Rebuild),
            (
                KafkaError::MessageProduction(Code::Fenced),
                Verdict::Rebuild,
            ),
            (
                KafkaError::MessageProduction(Code::MessageSizeTooLarge),
                Verdict::Rebuild,
            ),
            (KafkaError::Canceled, Verdict::Rebuild),
        ] {
            assert_eq!(classify(&error), verdict, "{error}");
        }
    }
}
