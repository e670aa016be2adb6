//! Publishes batches of many boxes over one connection to a real broker, as
//! fast as it takes them or at a rate.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, bail};
use returnpath_agent::{
    clock::{self, TrustedTime},
    identity::{Identity, IdentityFiles},
    link,
};
use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, Packet, PublishOptions, QoS, TlsConfiguration,
    Transport,
};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::boxes::Boxes;
use crate::{pki, wait::wait_until};

/// QoS 1 packets without PUBACK: enough that the broker, not the round trip,
/// sets the pace.
const IN_FLIGHT_MAX: u16 = 1_000;

/// Publishes handed to the client at once when a rate is held.
const TICK: Duration = Duration::from_millis(10);

const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// A connection that publishes for many boxes.
pub struct Load {
    client: AsyncClient,
    acknowledged: tokio::sync::watch::Receiver<u64>,
    published: u64,
    started: Instant,
}

impl Load {
    /// Connects with a certificate that may publish for any box.
    ///
    /// # Errors
    /// When the certificate cannot be read or the broker refuses.
    pub async fn connect(
        port: u16,
        authority: &Path,
        identity: &pki::Identity,
    ) -> anyhow::Result<Self> {
        let mut options = MqttOptions::new("load", ("localhost", port));
        let identity = Identity::load(&IdentityFiles {
            certificate: identity.certificate.clone(),
            private_key: identity.key.clone(),
            ca: authority.to_owned(),
        })?;
        let time = TrustedTime::new(clock::build_unix_s());
        let tls = link::client_config(&identity, time)?;
        options
            .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)))
            .set_clean_start(true)
            .set_outgoing_inflight_upper_limit(IN_FLIGHT_MAX)
            .set_max_request_batch(128)
            .set_read_batch_size(128);
        let (client, mut event_loop) = AsyncClient::builder(options)
            .capacity(usize::from(IN_FLIGHT_MAX))
            .build();
        timeout(ANSWER_LIMIT, connected(&mut event_loop))
            .await
            .context("the broker does not answer")??;
        let (acknowledge, acknowledged) = tokio::sync::watch::channel(0);
        tokio::spawn(async move {
            // Ends with the connection; what is missing then is seen by
            // whoever waits for it.
            while let Ok(event) = event_loop.poll().await {
                if matches!(event, Event::Incoming(Packet::PubAck(_))) {
                    acknowledge.send_modify(|count| *count += 1);
                }
            }
        });
        Ok(Self {
            client,
            acknowledged,
            published: 0,
            started: Instant::now(),
        })
    }

    /// Publishes `count` batches as fast as the broker takes them, and waits
    /// until it has acknowledged all.
    ///
    /// # Errors
    /// When the connection ends.
    pub async fn flood(&mut self, boxes: &mut Boxes, count: u64) -> anyhow::Result<()> {
        for _ in 0..count {
            self.publish(boxes).await?;
        }
        let (acknowledged, published) = (&mut self.acknowledged, self.published);
        wait_until("the broker to take the load", ANSWER_LIMIT, async || {
            let count = *acknowledged.borrow_and_update();
            anyhow::ensure!(count >= published, "{count} of {published}");
            Ok(())
        })
        .await
    }

    /// Publishes at `rate` batches a second until the end of `span`.
    ///
    /// # Errors
    /// When the connection ends, or the broker is more than a second behind.
    pub async fn hold(
        &mut self,
        boxes: &mut Boxes,
        rate: u32,
        span: Duration,
    ) -> anyhow::Result<()> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let started = Instant::now();
        let mut sent = 0_u64;
        while started.elapsed() < span {
            ticks.tick().await;
            let elapsed_us = u64::try_from(started.elapsed().as_micros())?;
            let due = elapsed_us * u64::from(rate) / 1_000_000;
            while sent < due {
                self.publish(boxes).await?;
                sent += 1;
            }
            let waiting = self.published - *self.acknowledged.borrow();
            if waiting > u64::from(rate) + u64::from(IN_FLIGHT_MAX) {
                bail!("the broker is {waiting} batches behind a rate of {rate}/s");
            }
        }
        Ok(())
    }

    /// Batches handed to the client so far.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.published
    }

    async fn publish(&mut self, boxes: &mut Boxes) -> anyhow::Result<()> {
        let uptime_ms = 10_000 + u64::try_from(self.started.elapsed().as_millis())?;
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let envelope = boxes.next_batch(uptime_ms, i64::try_from(since_1970.as_millis())?)?;
        self.client
            .publish(
                envelope.topic,
                envelope.payload,
                PublishOptions::new(QoS::AtLeastOnce),
            )
            .await
            .context("the connection to the broker ended")?;
        self.published += 1;
        Ok(())
    }
}

async fn connected(event_loop: &mut EventLoop) -> anyhow::Result<()> {
    loop {
        if let Event::Incoming(Packet::ConnAck(_)) = event_loop.poll().await? {
            return Ok(());
        }
    }
}
