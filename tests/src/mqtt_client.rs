//! Boxes, and those who pretend to be one, that share no code with the agent:
//! mostly Mosquitto's own command line clients.

use std::{
    path::PathBuf,
    process::{Output, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use rumqttc::{
    AsyncClient, Event, MqttOptions, Packet, PublishOptions, QoS, TlsConfiguration, Transport,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    version::TLS13,
};
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
    time::timeout,
};

use crate::pki::Identity;

/// A receipt may take 30 s; everything else takes less.
const LIMIT: Duration = Duration::from_secs(60);

/// How `mosquitto_sub` ends when no message came (`MOSQ_ERR_TIMEOUT`).
const NO_MESSAGE: i32 = 27;

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
        let mut command = self.command("mosquitto_pub");
        command.args(["-t", topic, "-q", "1", "-s"]);
        run(command, payload).await.context("mosquitto_pub")
    }

    /// Publishes one message and returns the payload of the next one on the
    /// topic `answers`, to which it subscribes first. By rumqttc:
    /// `mosquitto_rr` 2.0.11 takes no binary payload.
    ///
    /// # Errors
    /// When the broker cannot be reached, or no answer comes.
    pub async fn request(
        &self,
        topic: &str,
        payload: &[u8],
        answers: &str,
    ) -> anyhow::Result<Bytes> {
        let mut options = MqttOptions::new(self.client_id.as_str(), ("localhost", self.port));
        options
            .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(
                self.tls()?,
            )))
            .set_clean_start(true)
            .set_session_expiry_interval(Some(0));
        let (client, mut event_loop) = AsyncClient::builder(options).capacity(2).build();
        client.subscribe(answers, QoS::AtLeastOnce).await?;
        let exchange = async {
            loop {
                match event_loop.poll().await? {
                    Event::Incoming(Packet::SubAck(_)) => {
                        client
                            .publish(topic, payload.to_vec(), PublishOptions::at_least_once())
                            .await?;
                    }
                    Event::Incoming(Packet::Publish(answer)) => {
                        return anyhow::Ok(answer.payload);
                    }
                    Event::Incoming(_) | Event::Outgoing(_) | Event::Auth(_) => {}
                }
            }
        };
        timeout(LIMIT, exchange)
            .await
            .with_context(|| format!("no answer on {answers} in {LIMIT:?}"))?
    }

    /// Starts a subscriber that prints every payload in hexadecimal digits,
    /// until it is killed.
    ///
    /// # Errors
    /// When `mosquitto_sub` cannot be run.
    pub fn subscribe(&self, topic: &str) -> anyhow::Result<Child> {
        self.command("mosquitto_sub")
            .args(["-t", topic, "-q", "1", "-F", "%x"])
            .stdin(Stdio::null())
            .spawn()
            .context("start mosquitto_sub")
    }

    /// The payload that the broker retains on `topic`, if any.
    ///
    /// # Errors
    /// When `mosquitto_sub` cannot be run, or cannot connect.
    pub async fn retained(&self, topic: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let mut command = self.command("mosquitto_sub");
        // Without a message it ends after the seconds of -W.
        command.args(["-t", topic, "-q", "1", "--retained-only", "-C", "1"]);
        command.args(["-N", "-W", "5"]);
        let output = run(command, b"").await.context("mosquitto_sub")?;
        if output.status.code() == Some(NO_MESSAGE) {
            return Ok(None);
        }
        ensure!(output.stderr.is_empty(), "mosquitto_sub: {output:?}");
        Ok((!output.stdout.is_empty()).then_some(output.stdout))
    }

    fn tls(&self) -> anyhow::Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.authority)?)?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])?
            .with_root_certificates(roots);
        let config = match &self.identity {
            Some(identity) => config.with_client_auth_cert(
                vec![CertificateDer::from_pem_file(&identity.certificate)?],
                PrivateKeyDer::from_pem_file(&identity.key)?,
            )?,
            None => config.with_no_client_auth(),
        };
        Ok(Arc::new(config))
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

async fn run(mut command: Command, payload: &[u8]) -> anyhow::Result<Output> {
    let mut child = command.stdin(Stdio::piped()).spawn().context("start")?;
    if let Some(mut input) = child.stdin.take() {
        // It may have been refused, and be gone, before it read anything.
        let _ = input.write_all(payload).await;
    }
    timeout(LIMIT, child.wait_with_output())
        .await
        .with_context(|| format!("did not end in {LIMIT:?}"))?
        .context("wait for its end")
}
