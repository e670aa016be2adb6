//! Mosquitto's own command line clients: boxes, and those who pretend to be
//! one, that share no code with the agent.

use std::{
    path::PathBuf,
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

use crate::pki::Identity;

const LIMIT: Duration = Duration::from_secs(30);

/// Someone who connects to the broker.
pub struct MqttClient {
    /// Port of the broker on the loopback address.
    pub port: u16,
    /// The authority it trusts.
    pub authority: PathBuf,
    /// The certificate it shows; `None` shows none.
    pub identity: Option<Identity>,
    /// The client id it asks for.
    pub client_id: String,
}

impl MqttClient {
    /// Publishes one message with QoS 1, waits for the PUBACK and disconnects.
    /// What was refused stands in the standard error of the output.
    ///
    /// # Errors
    /// When `mosquitto_pub` cannot be run, or does not end.
    pub async fn publish(&self, topic: &str, payload: &[u8]) -> anyhow::Result<Output> {
        let mut child = self
            .command("mosquitto_pub")
            .args(["-t", topic, "-q", "1", "-s"])
            .stdin(Stdio::piped())
            .spawn()
            .context("start mosquitto_pub")?;
        if let Some(mut input) = child.stdin.take() {
            // It may have been refused before it read anything.
            let _ = input.write_all(payload).await;
        }
        timeout(LIMIT, child.wait_with_output())
            .await
            .context("mosquitto_pub did not end")?
            .context("mosquitto_pub")
    }

    /// Starts a subscriber that prints the payload of the first message in
    /// hexadecimal digits and ends, or ends without after `seconds`.
    ///
    /// # Errors
    /// When `mosquitto_sub` cannot be run.
    pub fn subscribe(&self, topic: &str, seconds: u32) -> anyhow::Result<tokio::process::Child> {
        self.command("mosquitto_sub")
            .args(["-t", topic, "-q", "1", "-C", "1", "-F", "%x"])
            .args(["-W", &seconds.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .context("start mosquitto_sub")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .args(["-V", "mqttv5", "-h", "127.0.0.1", "-i", &self.client_id])
            .args(["-p", &self.port.to_string()])
            .arg("--cafile")
            .arg(&self.authority);
        if let Some(identity) = &self.identity {
            command
                .arg("--cert")
                .arg(&identity.certificate)
                .arg("--key")
                .arg(&identity.key);
        }
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}
