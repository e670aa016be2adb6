//! librdkafka's own log lines, passed on to `tracing`.

use rdkafka::{
    ClientContext, config::RDKafkaLogLevel, consumer::ConsumerContext, error::KafkaError,
};
use tracing::{debug, info, warn};

/// Context of a client that needs no callbacks of its own: its log lines go to
/// `tracing` under the name of its owner.
///
/// Contexts with callbacks of their own pass `log` and `error` to one of these.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// Who owns the client: a role or a command.
    pub owner: &'static str,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        let owner = self.owner;
        // What librdkafka calls an error is mostly weather: a broker that is
        // away, a connection that broke. It retries by itself; what it cannot
        // mend comes back as a result of a call.
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => warn!(target: "kafka", owner, facility, "{line}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                info!(target: "kafka", owner, facility, "{line}");
            }
            RDKafkaLogLevel::Debug => debug!(target: "kafka", owner, facility, "{line}"),
        }
    }

    /// At `debug`: `log` has told the same, without the repeats.
    fn error(&self, error: KafkaError, reason: &str) {
        debug!(target: "kafka", owner = self.owner, %error, "{reason}");
    }
}

impl ConsumerContext for Context {}
