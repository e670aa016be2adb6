//! What a role asks of Kafka before it starts.

use std::time::Duration;

use thiserror::Error;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::{
    admin::{Readiness, RoleHealth},
    kafka,
    topics::{
        Finding, Severity,
        facts::{Admin, Facts, FactsError},
        finding::{self, findings},
        spec::{self, Spec},
    },
};

/// Pause before Kafka is asked again after it did not answer.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Why a role does not start.
#[derive(Debug, Error)]
pub enum PreconditionError {
    /// The client cannot be made.
    #[error("cannot check what is required of Kafka")]
    Client(#[source] FactsError),
    /// Kafka is not as it must be.
    #[error("Kafka is not as required: {}", list(.0))]
    Refused(Vec<Finding>),
}

fn list(findings: &[Finding]) -> String {
    let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// Waits until Kafka answers, checks that it keeps what it confirms, and says
/// how many partitions the topics have; `None` when told to stop before.
///
/// # Errors
/// When Kafka is not as required.
pub async fn preconditions(
    kafka: &kafka::Config,
    role: &'static str,
    health: &RoleHealth,
    stop: &mut watch::Receiver<bool>,
) -> Result<Option<u32>, PreconditionError> {
    let admin = Admin::new(kafka, role).map_err(PreconditionError::Client)?;
    let facts = loop {
        health.progressed();
        match admin.facts(&kafka.topics).await {
            Ok(facts) => break facts,
            Err(error) => {
                warn!(role, "waiting for Kafka: {error}");
                health.set(Readiness::NotReady("no answer from Kafka"));
            }
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return Ok(None),
            () = tokio::time::sleep(ASK_AGAIN_AFTER) => {}
        }
    };
    judge(&facts, kafka, role).map(Some)
}

fn judge(
    facts: &Facts,
    kafka: &kafka::Config,
    role: &'static str,
) -> Result<u32, PreconditionError> {
    let partitions = facts.topics.first().map_or(0, |topic| topic.partitions);
    let findings = findings(facts, &required(kafka, partitions));
    let refused: Vec<Finding> = findings
        .iter()
        .filter(|finding| finding.refuses(kafka.development))
        .cloned()
        .collect();
    if !refused.is_empty() {
        return Err(PreconditionError::Refused(refused));
    }
    let (differing, lifted): (Vec<Finding>, Vec<Finding>) = findings
        .into_iter()
        .partition(|finding| finding.severity == Severity::Differs);
    if !differing.is_empty() {
        info!(role, "other than usual: {}", list(&differing));
    }
    if kafka.development {
        warn!(
            role,
            "UNSAFE: kafka.development is set, confirmed data can be lost; lifted: {}",
            list(&lifted)
        );
    }
    Ok(partitions)
}

/// What must hold whatever the configuration says about new topics.
fn required(kafka: &kafka::Config, partitions: u32) -> Vec<Spec> {
    spec::all(&kafka.topics)
        .into_iter()
        .map(|(name, purpose)| Spec {
            name: name.to_owned(),
            purpose,
            partitions,
            replication: finding::REPLICATION_MIN,
            settings: vec![
                ("cleanup.policy", purpose.cleanup_policy().to_owned()),
                ("min.insync.replicas", finding::IN_SYNC_MIN.to_string()),
                ("unclean.leader.election.enable", "false".to_owned()),
                ("max.message.bytes", purpose.batch_bytes_min().to_string()),
                ("message.timestamp.type", "CreateTime".to_owned()),
            ],
        })
        .collect()
}
