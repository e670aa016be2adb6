//! The epochs of which the file holds batches, by the number that stands for
//! each in the batches' keys.

use std::collections::BTreeMap;

use returnpath_shared::{BatchId, Epoch, Sequence};
use rusqlite::Connection;

use super::sealed::{self, column, epoch, small, stored};

/// Bits of a batch's key that hold its sequence: at one batch a second, 34,000
/// years in one run.
const SEQUENCE_BITS: u32 = 40;

const SEQUENCE_MAX: u64 = (1 << SEQUENCE_BITS) - 1;

/// Which epoch has which `epoch.id`. As many entries as epochs with batches.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    ids: BTreeMap<Epoch, u32>,
    by_id: BTreeMap<u32, Epoch>,
}

impl Epochs {
    /// As many as can be read, and the first error if that is not all.
    pub(super) fn read(connection: &Connection) -> (Self, Option<rusqlite::Error>) {
        let mut epochs = Self::default();
        let outcome = sealed::each(connection, "epoch", "", &mut |row| {
            epochs.enter(small(row, "id")?, epoch(row)?);
            Ok(())
        });
        (epochs, outcome.err())
    }

    /// Forgets those without batches, inside the caller's transaction.
    pub(super) fn tidy(connection: &Connection) -> Result<(), rusqlite::Error> {
        let sql = "DELETE FROM epoch WHERE NOT EXISTS
               (SELECT 1 FROM batch WHERE key BETWEEN epoch.id << 40 AND (epoch.id + 1) << 40)";
        connection.execute(sql, []).map(drop)
    }

    fn enter(&mut self, id: u32, epoch: Epoch) {
        self.ids.insert(epoch, id);
        self.by_id.insert(id, epoch);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Epoch> {
        self.ids.keys().copied()
    }

    /// The key of a batch; its epoch gets a number when it is new.
    pub(super) fn ensure(
        &mut self,
        connection: &Connection,
        batch: BatchId,
    ) -> Result<i64, rusqlite::Error> {
        if let Some(key) = self.key(batch) {
            return Ok(key);
        }
        let id = self.by_id.last_key_value().map_or(0, |(id, _)| id + 1);
        let columns = [
            column(id.into()),
            column(batch.epoch.incarnation.get()),
            column(batch.epoch.start.into()),
        ];
        sealed::put(connection, "epoch", &columns)?;
        self.enter(id, batch.epoch);
        Ok(key(id, batch.sequence))
    }

    /// The key of a batch whose epoch is known.
    pub(super) fn key(&self, batch: BatchId) -> Option<i64> {
        let id = self.ids.get(&batch.epoch)?;
        Some(key(*id, batch.sequence))
    }

    pub(super) fn of_key(&self, key: u64) -> Option<BatchId> {
        let id = u32::try_from(key >> SEQUENCE_BITS).ok()?;
        let epoch = *self.by_id.get(&id)?;
        let sequence = Sequence(key & SEQUENCE_MAX);
        Some(BatchId { epoch, sequence })
    }
}

fn key(epoch_id: u32, sequence: Sequence) -> i64 {
    stored(u64::from(epoch_id) << SEQUENCE_BITS | sequence.0.min(SEQUENCE_MAX))
}
