//! Certificates that are expired, foreign or taken back, and a box that does
//! not know the time. The policy:
//!
//! - The broker judges boxes and collectors, by its clock and its revocation
//!   list. Who is not let in keeps what it holds, and is let in with a new
//!   certificate.
//! - Boxes and collectors judge the broker by name, authority and time, and
//!   send nothing to one that they do not believe. They have no revocation
//!   lists: a broker's certificate is short-lived, and taken back by not being
//!   renewed.
//! - A box without the time holds "not yet valid" against nobody, and "expired"
//!   by the later of its agent's build and the last time that it knew.

use std::{fs, time::Duration};

use anyhow::ensure;
use returnpath_tests::{
    agent::Agent,
    pki::{Identity, Untrusted},
    wait::wait_until,
};

use crate::{
    event,
    scene::{Losses, Scene, play},
};

/// From a start to a refused attempt, and from one to the next.
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_box_that_is_expired_foreign_or_revoked_waits_for_a_new_certificate() -> anyhow::Result<()>
{
    play("refused-boxes", async |scene| {
        let expired = scene
            .pki
            .untrusted_device(&"box-1".parse()?, Untrusted::Expired)?;
        let foreign = scene
            .pki
            .untrusted_device(&"box-2".parse()?, Untrusted::OtherAuthority)?;
        let (revoked, list) = scene.pki.revoked_device(&"box-3".parse()?)?;
        scene.mosquitto.change(
            "require_certificate true",
            &format!("require_certificate true\ncrlfile {}", list.display()),
        )?;
        scene.mosquitto.kill()?;
        scene.mosquitto.resume().await?;
        let _collector = scene.running_collector().await?;
        let good = scene.running_agent("box-4").await?;
        good.linked().await?;

        let mut refused = Vec::new();
        for (device, identity) in [("box-1", expired), ("box-2", foreign), ("box-3", revoked)] {
            let mut agent = scene.agent(device)?;
            shows(scene, &agent, &identity)?;
            agent.start().await?;
            let mut client = scene.client(&agent).await?;
            client.expect("accepted", &event::tune(1)).await?;
            // On its flash: it has no broker.
            client.expect("durable", &event::impression("held")).await?;
            refused.push((agent, identity));
        }
        for (agent, _) in &refused {
            // Told by the broker, in a TLS alert.
            fails_for(agent, "alert").await?;
        }
        let log = scene.mosquitto.log()?;
        for device in ["box-1", "box-2", "box-3"] {
            assert!(!log.contains(&format!(" as {device} ")), "{device}\n{log}");
        }
        // The good beside them goes on.
        let mut client = scene.client(&good).await?;
        client
            .expect("durable", &event::impression("beside"))
            .await?;

        // A new certificate arrives where the old one lay.
        for (agent, identity) in &mut refused {
            let renewed = scene.pki.device(agent.device())?;
            fs::copy(&renewed.certificate, &identity.certificate)?;
            fs::copy(&renewed.key, &identity.key)?;
            assert!(agent.terminate(LIMIT).await?.success());
            agent.start().await?;
            agent.linked().await?;
        }
        scene.settle(Losses::None).await
    })
    .await
}

#[tokio::test]
async fn nobody_believes_a_broker_that_is_expired_foreign_or_elsewhere() -> anyhow::Result<()> {
    play("untrusted-broker", async |scene| {
        let collector = scene.running_collector().await?;
        let mut agent = scene.agent("box-1")?;
        // A box that knows the time, whatever this machine says of its clock.
        let is_there = scene.pki.authority();
        let clock = format!("[clock]\nsynchronised_file = \"{}\"", is_there.display());
        agent.change("[link]", &format!("{clock}\n\n[link]"))?;
        agent.start().await?;
        agent.linked().await?;
        let mut client = scene.client(&agent).await?;
        client
            .expect("durable", &event::impression("before"))
            .await?;
        let mut shown = scene.pki.broker();
        for (why, reason) in [
            (Untrusted::Expired, "expired"),
            (Untrusted::OtherAuthority, "signature"),
            (Untrusted::OtherName, "not valid for name"),
        ] {
            let untrusted = scene.pki.untrusted_broker(why)?;
            broker_shows(scene, &shown, &untrusted).await?;
            shown = untrusted;
            fails_for(&agent, reason).await?;
            wait_until("the collector to be away", LIMIT, async || {
                let connected = collector.metric("returnpath_bridge_connected").await?;
                ensure!(connected < 0.5, "connected");
                Ok(())
            })
            .await?;
            client
                .expect("durable", &event::impression(&format!("{why:?}")))
                .await?;
            let log = scene.mosquitto.log()?;
            let since = log.rsplit("mosquitto version").next().unwrap_or(&log);
            assert!(!since.contains("New client connected"), "{why:?}\n{since}");
        }
        let good = scene.pki.broker();
        broker_shows(scene, &shown, &good).await?;
        agent.linked().await?;
        scene.settle(Losses::None).await
    })
    .await
}

#[tokio::test]
async fn a_box_in_1970_believes_a_certificate_of_today_and_none_of_years_ago() -> anyhow::Result<()>
{
    play("tls-1970", async |scene| {
        let _collector = scene.running_collector().await?;
        let good = scene.pki.broker();
        let old = scene.pki.untrusted_broker(Untrusted::ExpiredForYears)?;
        broker_shows(scene, &good, &old).await?;
        let mut agent = scene.agent("box-1")?;
        agent.start_in_1970().await?;
        let mut client = scene.client(&agent).await?;
        client.expect("durable", &event::impression("held")).await?;
        fails_for(&agent, "expired").await?;

        // Begun an hour ago, which by the box's clock is half a century ahead.
        broker_shows(scene, &old, &good).await?;
        agent.linked().await?;
        scene.settle(Losses::None).await
    })
    .await
}

/// Has the box show this certificate, from its next start on.
fn shows(scene: &Scene, agent: &Agent, identity: &Identity) -> anyhow::Result<()> {
    let good = scene.pki.device(agent.device())?;
    let certificate =
        |identity: &Identity| format!("certificate = \"{}\"", identity.certificate.display());
    let key = |identity: &Identity| format!("private_key = \"{}\"", identity.key.display());
    agent.change(&certificate(&good), &certificate(identity))?;
    agent.change(&key(&good), &key(identity))
}

/// Has the broker show another certificate, from now on.
async fn broker_shows(
    scene: &mut Scene,
    before: &Identity,
    identity: &Identity,
) -> anyhow::Result<()> {
    let certificate = |identity: &Identity| format!("certfile {}", identity.certificate.display());
    let key = |identity: &Identity| format!("keyfile {}", identity.key.display());
    let mosquitto = &mut scene.mosquitto;
    mosquitto.change(&certificate(before), &certificate(identity))?;
    mosquitto.change(&key(before), &key(identity))?;
    mosquitto.kill()?;
    mosquitto.resume().await
}

/// Waits until an attempt of the box has failed for this reason.
async fn fails_for(agent: &Agent, reason: &str) -> anyhow::Result<()> {
    let what = format!("{} to fail for {reason:?}", agent.device());
    wait_until(&what, LIMIT, async || {
        let status = agent.status().await?;
        let link = &status["link"];
        ensure!(link["up"] == false, "{link}");
        let error = link["lastError"].as_str().unwrap_or_default();
        ensure!(error.to_lowercase().contains(reason), "{error:?}");
        Ok(())
    })
    .await
}
