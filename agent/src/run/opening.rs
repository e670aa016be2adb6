//! Opens the queue, and says what a run begins with.

use returnpath_delivery::{BootFacts, Start};
use returnpath_shared::Incarnation;
use tracing::error;

use crate::{
    clock,
    config::Config,
    queue::{self, OpenQueue, QueueError},
};

/// Opens the queue. Where the medium fails, the box goes on without a file;
/// where the configuration is wrong, people must know at once.
pub(super) fn queue(config: &Config) -> Result<OpenQueue, QueueError> {
    let directory = &config.queue.directory;
    let bytes_max = config.queue.bytes_max;
    let incarnation = new_incarnation();
    match OpenQueue::open(directory, bytes_max, incarnation) {
        Err(error) if !error.is_in_use() && !error.is_configuration() => {
            error!(%error, "there is no queue file: going on in memory");
            Ok(OpenQueue::without_file(directory, bytes_max, incarnation))
        }
        opened => opened,
    }
}

/// Names a new queue file.
pub(super) fn new_incarnation() -> Incarnation {
    loop {
        if let Some(incarnation) = Incarnation::new(clock::random_u64()) {
            return incarnation;
        }
    }
}

/// What the delivery core begins with.
pub(super) fn start(open: &OpenQueue, config: &Config) -> Start {
    let found = open.found();
    Start {
        epoch: found.epoch,
        boot_id: clock::boot_id(),
        facts: BootFacts {
            model: config.identity.model.clone(),
            firmware: config.identity.firmware.clone(),
            agent_version: env!("CARGO_PKG_VERSION").into(),
            sqlite_version: queue::sqlite_version().into(),
            mount_options: found.mount_options.clone(),
        },
        ledger: found.ledger.clone(),
        proof_ids: found.proof_ids.clone(),
        anchors: found.anchors.clone(),
        unclean: found.unclean.clone(),
        powered: found.powered,
        seed: clock::random_u64(),
    }
}
