//! A real Mosquitto: TLS 1.3 with required client certificates, the common
//! name as user and client id, and access control by it.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::net::TcpStream;

use crate::{pki::DevelopmentPki, place, process::Process, wait::wait_until};

/// Debian keeps daemons out of an ordinary user's search path.
const PROGRAM: &str = "/usr/sbin/mosquitto";

const START_LIMIT: Duration = Duration::from_secs(30);

/// Who may do what. `%u` is the common name of the client's certificate: a box
/// reaches its own topics. Collectors are named, and each of their roles has
/// the rights that it needs: bridges take what boxes say and receipt it, the
/// decide role pushes decisions. `operator` is a person at
/// `returnpath-collector config publish`: no process that runs unattended may
/// steer boxes. `load` stands for many boxes in benchmarks, and
/// `observer` reads along what boxes are sent.
const ACCESS: &str = "\
user collector-a
topic read rp/v1/+/events/+
topic read rp/v1/+/presence
topic write rp/v1/+/receipts

user collector-b
topic read rp/v1/+/events/+
topic read rp/v1/+/presence
topic write rp/v1/+/receipts

user collector-a-decide
topic write rp/v1/+/decisions

user collector-b-decide
topic write rp/v1/+/decisions

user collector-c-decide
topic write rp/v1/+/decisions

user operator
topic write rp/v1/+/config

user load
topic write rp/v1/+/events/+

user observer
topic read rp/v1/+/decisions

pattern write rp/v1/%u/events/+
pattern write rp/v1/%u/presence
pattern read rp/v1/%u/receipts
pattern read rp/v1/%u/decisions
pattern read rp/v1/%u/config
";

/// A Mosquitto broker. Killed on drop.
pub struct Mosquitto {
    directory: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Mosquitto {
    /// Starts a broker with the certificates of `pki`.
    ///
    /// # Errors
    /// When Mosquitto is not installed, or does not listen in time.
    pub async fn start(pki: &DevelopmentPki) -> anyhow::Result<Self> {
        let directory = place::fresh_directory("mosquitto")?;
        let port = place::free_port()?;
        fs::write(directory.join("access"), ACCESS)?;
        fs::write(
            directory.join("mosquitto.conf"),
            configuration(&directory, port, pki),
        )?;
        let mut mosquitto = Self {
            directory,
            port,
            process: None,
        };
        mosquitto.resume().await?;
        Ok(mosquitto)
    }

    /// The port it listens on, on the loopback address.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills the broker. It keeps nothing: sessions, queues and retained
    /// messages are gone.
    ///
    /// # Errors
    /// When the system cannot say how it ended.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill(),
            None => Ok(()),
        }
    }

    /// Starts the broker again, on the same port and with an empty memory.
    ///
    /// # Errors
    /// When it does not listen in time.
    pub async fn resume(&mut self) -> anyhow::Result<()> {
        let process = match &mut self.process {
            Some(process) => process,
            none => none.insert(Process::start(
                "mosquitto",
                &self.directory,
                Path::new(PROGRAM),
                ["-c", "mosquitto.conf"],
            )?),
        };
        wait_until("Mosquitto to listen", START_LIMIT, async || {
            process.check_running()?;
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))
                .await
                .context("connect")
        })
        .await?;
        Ok(())
    }

    /// Replaces one line of its configuration, from its next start on.
    ///
    /// # Errors
    /// When the line is not there exactly once, or the file cannot be written.
    pub fn change(&self, line: &str, by: &str) -> anyhow::Result<()> {
        place::change_line(&self.directory.join("mosquitto.conf"), line, by)
    }

    /// Id of the process.
    ///
    /// # Errors
    /// When it is not running.
    pub fn process_id(&self) -> anyhow::Result<u32> {
        let process = self.process.as_ref();
        Ok(process.context("Mosquitto is not running")?.id())
    }

    /// An error that stops waiting, when it has ended or was killed.
    ///
    /// # Errors
    /// Says how it ended, with the end of its log.
    pub fn check_running(&mut self) -> anyhow::Result<()> {
        match &mut self.process {
            Some(process) => process.check_running(),
            None => bail!("Mosquitto is not running"),
        }
    }

    /// Where it logs.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.directory.join("mosquitto.log")
    }

    /// What it logged so far.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn log(&self) -> anyhow::Result<String> {
        let path = self.log_path();
        let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn configuration(directory: &Path, port: u16, pki: &DevelopmentPki) -> String {
    let broker = pki.broker();
    format!(
        "\
listener {port} 127.0.0.1
cafile {authority}
certfile {certificate}
keyfile {key}
tls_version tlsv1.3
require_certificate true
use_identity_as_username true
# Else a box with a good certificate could take another's client id and throw
# it off.
use_username_as_clientid true
allow_anonymous false
acl_file {access}

# Started by root it would become a user who cannot read the keys.
user root
# The promise does not lean on the broker's memory, so it keeps none on disk.
persistence false
# By default Mosquitto drops silently past 1,000 queued messages a client; the
# tests drop on purpose or not at all.
max_queued_messages 100000
max_inflight_messages 1000
set_tcp_nodelay true

log_dest stderr
log_type error
log_type warning
log_type notice
log_type information
log_type subscribe
connection_messages true
log_timestamp_format %H:%M:%S
",
        authority = pki.authority().display(),
        certificate = broker.certificate.display(),
        key = broker.key.display(),
        access = directory.join("access").display(),
    )
}
