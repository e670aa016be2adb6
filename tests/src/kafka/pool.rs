//! Kafka nodes handed from test to test: starting one takes longer than most
//! tests. Tests keep apart by topic prefixes.

use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, PoisonError},
};

use super::Kafka;

/// Nodes that nobody uses now. As many as tests run at once.
static IDLE: Mutex<Vec<Kafka>> = Mutex::new(Vec::new());

/// A running Kafka for one user at a time; handed on when dropped.
pub struct Lease {
    kafka: Option<Kafka>,
}

impl Lease {
    /// Takes an idle node, or starts one.
    ///
    /// # Errors
    /// As [`Kafka::start`] and [`Kafka::resume`].
    pub async fn take() -> anyhow::Result<Self> {
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let kafka = match idle {
            Some(mut kafka) => {
                // The last user may have left it killed.
                kafka.resume().await?;
                kafka
            }
            None => Kafka::start().await?,
        };
        Ok(Self { kafka: Some(kafka) })
    }
}

/// Why the option is never empty while anyone can look.
const HELD: &str = "the node is given back by drop only";

impl Deref for Lease {
    type Target = Kafka;

    #[expect(clippy::expect_used, reason = "emptied by drop only")]
    fn deref(&self) -> &Kafka {
        self.kafka.as_ref().expect(HELD)
    }
}

impl DerefMut for Lease {
    #[expect(clippy::expect_used, reason = "emptied by drop only")]
    fn deref_mut(&mut self) -> &mut Kafka {
        self.kafka.as_mut().expect(HELD)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(kafka) = self.kafka.take() {
            kafka.thaw();
            IDLE.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(kafka);
        }
    }
}
