//! The agent's configuration: read once, at start, into final types.
//!
//! Defaults stand in `returnpath-agent.example.toml` and nowhere else; a file
//! given by the operator is laid over it.

mod section;

use std::{path::PathBuf, sync::Arc, time::Duration};

use returnpath_shared::{BATCH_BYTES_MAX, CLIENT_ID_BYTES_MAX, DeviceId, Kind};
use thiserror::Error;
use toml::Table;
use tracing::level_filters::LevelFilter;

use self::section::{Reader, Section};
use crate::{clock::SyncSource, identity::IdentityFiles, link::BrokerAddress};

/// The documented example, without its comments: where defaults come from.
pub const EXAMPLE: &str = include_str!(concat!(env!("OUT_DIR"), "/defaults.toml"));

/// Keys that have no default: their value in the example is an example.
const NEEDED: [&str; 4] = [
    "identity.certificate",
    "identity.private_key",
    "identity.ca",
    "link.brokers",
];

/// Entries of `intake.allow`: more uids than a box has.
const ALLOW_MAX: usize = 64;

/// Brokers that are tried in turn.
const BROKERS_MAX: usize = 8;

/// The whole configuration, by component.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Who the box is.
    pub identity: IdentityConfig,
    /// The socket.
    pub intake: IntakeConfig,
    /// What is held, and for how long.
    pub queue: QueueConfig,
    /// How events are put together.
    pub batch: BatchConfig,
    /// The connection to the broker.
    pub link: LinkSettings,
    /// Whose decisions and configuration are obeyed.
    pub trust: TrustConfig,
    /// How the clock is known to be right.
    pub clock: SyncSource,
    /// How often the agent reports on itself; `None` never.
    pub health_interval: Option<Duration>,
    /// What is logged.
    pub log_level: LevelFilter,
    /// How long an orderly stop may take.
    pub shutdown_deadline: Duration,
}

/// `[identity]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdentityConfig {
    /// Certificate, key and trusted authorities.
    pub files: IdentityFiles,
    /// The device that the certificate must name.
    pub device: Option<DeviceId>,
    /// Reported with each start.
    pub model: String,
    /// Reported with each start.
    pub firmware: String,
}

/// `[intake]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IntakeConfig {
    /// Path of the socket file.
    pub socket: PathBuf,
    /// Its mode.
    pub mode: u32,
    /// Its group, by name or number.
    pub group: Option<String>,
    /// Clients at once.
    pub clients_max: usize,
    /// What other uids than the agent's own and root may send.
    pub allow: Vec<Allowance>,
}

/// One entry of `intake.allow`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Allowance {
    /// Peer uid.
    pub uid: u32,
    /// What it may send.
    pub kinds: Vec<Kind>,
    /// Whether it may follow decisions.
    pub decisions: bool,
}

/// `[trust]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrustConfig {
    /// File of the public keys that sign decisions; without it none is taken.
    pub decision_keys: Option<PathBuf>,
    /// File of the public keys that sign configuration; without it none is
    /// taken.
    pub config_keys: Option<PathBuf>,
}

/// `[queue]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueueConfig {
    /// Where the queue file lies.
    pub directory: PathBuf,
    /// Bound of the file.
    pub bytes_max: u64,
    /// Bound in batches.
    pub batches_max: usize,
    /// Bound in powered uptime.
    pub age_max: Duration,
    /// Between writes of ordinary batches.
    pub flush_interval: Duration,
    /// Bound of what only memory holds.
    pub memory_bytes_max: usize,
    /// When proof is synced.
    pub proof_sync: ProofSync,
    /// Bound of what reaches the flash in a day, if there is one.
    pub flash_bytes_per_day_max: Option<u64>,
}

/// `queue.proof_sync`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProofSync {
    /// When waiting for the receipt takes too long, or offline.
    Grouped,
    /// At once, in every case.
    Always,
}

/// `[batch]`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchConfig {
    /// Time from a batch's first event to its close.
    pub interval: Duration,
    /// Encoded size at which a batch is closed.
    pub bytes_max: usize,
}

/// `[link]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkSettings {
    /// In the order of trying.
    pub brokers: Arc<[BrokerAddress]>,
    /// Longest silence before a ping.
    pub keep_alive: Duration,
    /// From dialling to the first answer.
    pub connect_timeout: Duration,
    /// Longest wait for a PUBACK.
    pub acknowledgement_timeout: Duration,
    /// Batches without receipt in flight.
    pub window_batches_max: u16,
    /// Backlog batches a second.
    pub backlog_rate: u16,
    /// A batch older than this goes by the backlog lane.
    pub live_age_max: Duration,
    /// Wait for the receipt of proof and backlog.
    pub resend_after_prompt: Duration,
    /// Wait for the receipt of an ordinary batch.
    pub resend_after: Duration,
    /// Longest pause between probes.
    pub resend_after_max: Duration,
    /// Longest wait before the first attempt.
    pub reconnect_wait_base: Duration,
    /// Longest wait before a reconnect.
    pub reconnect_wait_max: Duration,
    /// Spread of reconnects after a connection was lost.
    pub reconnect_spread: Duration,
}

/// One key with a wrong value.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{key}: expected {expected}")]
pub struct Problem {
    /// Path of the key.
    pub key: String,
    /// The accepted form.
    pub expected: String,
}

/// Why a file is no configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Not TOML.
    #[error("not TOML")]
    Syntax(#[source] Box<toml::de::Error>),
    /// TOML, but wrong values or needed ones missing.
    #[error("{}", lines(.0))]
    Values(Vec<Problem>),
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// A configuration, and the keys in its file that mean nothing to this version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Paths of unknown keys.
    pub unknown: Vec<String>,
}

/// Reads a configuration.
///
/// # Errors
/// Names every key that is wrong or missing, and the accepted form.
pub fn parse(text: &str) -> Result<Loaded, ConfigError> {
    let table = |text: &str| {
        text.parse::<Table>()
            .map_err(|error| ConfigError::Syntax(Box::new(error)))
    };
    let given = table(text)?;
    let example = table(EXAMPLE)?;
    let mut reader = Reader::new(&given, &example, &NEEDED);
    let config = read(&mut reader);
    let (problems, unknown) = reader.finish();
    match config {
        Some(config) if problems.is_empty() => Ok(Loaded { config, unknown }),
        _ => Err(ConfigError::Values(problems)),
    }
}

/// `None` where a problem was noted that leaves no value.
fn read(reader: &mut Reader<'_>) -> Option<Config> {
    // Read every section before giving up, so that all problems are told.
    let identity = identity(&mut reader.section("identity"));
    let intake = intake(&mut reader.section("intake"));
    let queue = queue(&mut reader.section("queue"));
    let batch = batch(&mut reader.section("batch"));
    let link = link(&mut reader.section("link"));
    let trust = trust(&mut reader.section("trust"));
    let clock = reader.section("clock").optional_text("synchronised_file");
    let health_min = reader.section("health").integer("interval_min", 0, 1_440);
    let log_level = reader.section("log").parsed(
        "level",
        "error, warn, info, debug or trace",
        |text| match text {
            "error" => Some(LevelFilter::ERROR),
            "warn" => Some(LevelFilter::WARN),
            "info" => Some(LevelFilter::INFO),
            "debug" => Some(LevelFilter::DEBUG),
            "trace" => Some(LevelFilter::TRACE),
            _ => None,
        },
    );
    let deadline_ms = reader
        .section("shutdown")
        .integer("deadline_ms", 1_000, 60_000);
    Some(Config {
        identity: identity?,
        intake: intake?,
        queue: queue?,
        batch: batch?,
        link: link?,
        trust: trust?,
        clock: clock?.map_or(SyncSource::Kernel, |path| SyncSource::File(path.into())),
        health_interval: match health_min? {
            0 => None,
            minutes => Some(Duration::from_secs(minutes * 60)),
        },
        log_level: log_level?,
        shutdown_deadline: Duration::from_millis(deadline_ms?),
    })
}

fn identity(section: &mut Section<'_, '_>) -> Option<IdentityConfig> {
    let certificate = section.path("certificate");
    let private_key = section.path("private_key");
    let ca = section.path("ca");
    let device = section.parsed(
        "device",
        "\"\", or 1 to 64 of A-Z a-z 0-9 _ -",
        |text| match text {
            "" => Some(None),
            id => id.parse().ok().map(Some),
        },
    );
    let label = |text: &str| (text.len() <= CLIENT_ID_BYTES_MAX).then(|| text.to_owned());
    let model = section.parsed("model", "text of at most 64 bytes", label);
    let firmware = section.parsed("firmware", "text of at most 64 bytes", label);
    Some(IdentityConfig {
        files: IdentityFiles {
            certificate: certificate?,
            private_key: private_key?,
            ca: ca?,
        },
        device: device?,
        model: model?,
        firmware: firmware?,
    })
}

fn intake(section: &mut Section<'_, '_>) -> Option<IntakeConfig> {
    let socket = section.path("socket");
    let mode = section.parsed("mode", "an octal mode from \"0000\" to \"0777\"", |text| {
        u32::from_str_radix(text, 8)
            .ok()
            .filter(|mode| *mode <= 0o777)
    });
    let group = section.optional_text("group");
    let clients_max = section.integer("clients_max", 1, 1_024);
    let allow = section.tables("allow", ALLOW_MAX, |entry| {
        let uid = entry.integer("uid", 0, u64::from(u32::MAX));
        let kinds = entry.texts("kinds", "kinds that clients may send", 0, 64, |name| {
            Kind::named(name).filter(|kind| !kind.is_agents_own())
        });
        let follow = entry.optional_texts("follow", "\"decisions\"", 1, |name| {
            (name == "decisions").then_some(())
        });
        Some(Allowance {
            uid: u32::try_from(uid?).ok()?,
            kinds: kinds?,
            decisions: !follow?.is_empty(),
        })
    });
    Some(IntakeConfig {
        socket: socket?,
        mode: mode?,
        group: group?,
        clients_max: usize::try_from(clients_max?).ok()?,
        allow: allow?,
    })
}

fn queue(section: &mut Section<'_, '_>) -> Option<QueueConfig> {
    let directory = section.path("directory");
    let bytes_max = section.integer("bytes_max", 1 << 20, 1 << 30);
    let batches_max = section.integer("batches_max", 16, 65_536);
    let age_max_hours = section.integer("age_max_hours", 1, 8_760);
    let flush_interval_s = section.integer("flush_interval_s", 5, 600);
    let memory_bytes_max = section.integer("memory_bytes_max", 64 << 10, 16 << 20);
    let proof_sync = section.parsed(
        "proof_sync",
        "\"grouped\" or \"always\"",
        |text| match text {
            "grouped" => Some(ProofSync::Grouped),
            "always" => Some(ProofSync::Always),
            _ => None,
        },
    );
    let flash_bytes_per_day_max = section.integer("flash_bytes_per_day_max", 0, 64 << 30);
    Some(QueueConfig {
        directory: directory?,
        bytes_max: bytes_max?,
        batches_max: usize::try_from(batches_max?).ok()?,
        age_max: Duration::from_secs(age_max_hours? * 3_600),
        flush_interval: Duration::from_secs(flush_interval_s?),
        memory_bytes_max: usize::try_from(memory_bytes_max?).ok()?,
        proof_sync: proof_sync?,
        flash_bytes_per_day_max: Some(flash_bytes_per_day_max?).filter(|bytes| *bytes > 0),
    })
}

fn batch(section: &mut Section<'_, '_>) -> Option<BatchConfig> {
    let interval_ms = section.integer("interval_ms", 1_000, 300_000);
    let bytes_max = section.integer("bytes_max", 1_024, BATCH_BYTES_MAX as u64);
    Some(BatchConfig {
        interval: Duration::from_millis(interval_ms?),
        bytes_max: usize::try_from(bytes_max?).ok()?,
    })
}

fn link(section: &mut Section<'_, '_>) -> Option<LinkSettings> {
    let brokers = section.texts(
        "brokers",
        "host, host:port or [ipv6]:port",
        1,
        BROKERS_MAX,
        |text| text.parse().ok(),
    );
    let keep_alive_s = section.integer("keep_alive_s", 5, 1_200);
    let connect_timeout_s = section.integer("connect_timeout_s", 1, 120);
    let acknowledgement_timeout_s = section.integer("acknowledgement_timeout_s", 5, 300);
    let window_batches_max = section.integer("window_batches_max", 1, 64);
    let backlog_rate = section.integer("backlog_rate", 0, 1_000);
    let live_age_max_s = section.integer("live_age_max_s", 10, 3_600);
    let resend_after_prompt_ms = section.integer("resend_after_prompt_ms", 1_500, 60_000);
    let resend_after_s = section.integer("resend_after_s", 31, 600);
    let resend_after_max_s = section.integer("resend_after_max_s", 31, 3_600);
    let reconnect_wait_base_ms = section.integer("reconnect_wait_base_ms", 10, 60_000);
    let reconnect_wait_max_s = section.integer("reconnect_wait_max_s", 1, 3_600);
    let reconnect_spread_ms = section.integer("reconnect_spread_ms", 0, 3_600_000);
    Some(LinkSettings {
        brokers: brokers?.into(),
        keep_alive: Duration::from_secs(keep_alive_s?),
        connect_timeout: Duration::from_secs(connect_timeout_s?),
        acknowledgement_timeout: Duration::from_secs(acknowledgement_timeout_s?),
        window_batches_max: u16::try_from(window_batches_max?).ok()?,
        backlog_rate: u16::try_from(backlog_rate?).ok()?,
        live_age_max: Duration::from_secs(live_age_max_s?),
        resend_after_prompt: Duration::from_millis(resend_after_prompt_ms?),
        resend_after: Duration::from_secs(resend_after_s?),
        resend_after_max: Duration::from_secs(resend_after_max_s?),
        reconnect_wait_base: Duration::from_millis(reconnect_wait_base_ms?),
        reconnect_wait_max: Duration::from_secs(reconnect_wait_max_s?),
        reconnect_spread: Duration::from_millis(reconnect_spread_ms?),
    })
}

fn trust(section: &mut Section<'_, '_>) -> Option<TrustConfig> {
    let decision_keys = section.optional_text("decision_keys");
    let config_keys = section.optional_text("config_keys");
    Some(TrustConfig {
        decision_keys: decision_keys?.map(PathBuf::from),
        config_keys: config_keys?.map(PathBuf::from),
    })
}

#[cfg(test)]
mod tests;
