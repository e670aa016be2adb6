//! From the configuration to an agent that runs: every part made in an order in
//! which nothing is seen from outside before all that can be wrong was read.

use std::num::NonZeroU32;

use returnpath_delivery::{Delivery, Input, Reconnect, Uptime};
use rustix::process::getuid;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use super::{
    Agent, RunError, clients::Clients, decisions::Decisions, dialling::Dialling, opening, settings,
    steered::Steered, stopping::Stop, timekeeping::Timekeeping,
};
use crate::{
    clock::{self, TrustedTime},
    config::Config,
    identity::Identity,
    intake::{Intake, Permissions},
    link::{Link, LinkConfig, ListensTo, client_config},
    queue,
};

impl Agent {
    pub(super) fn start(config: Config) -> Result<Self, RunError> {
        let identity = Identity::load(&config.identity.files)?;
        if let Some(configured) = &config.identity.device
            && *configured != identity.device
        {
            return Err(RunError::OtherDevice {
                configured: configured.clone(),
                certified: identity.device,
            });
        }
        let mut open = opening::queue(&config)?;
        let trusted = TrustedTime::new(open.found().trusted_unix_s);
        let tls = client_config(&identity, trusted.clone())?;
        let steered = Steered::new(&config, &identity.device, open.found())?;
        let listens_to = ListensTo {
            decisions: steered.in_force().decision_keys.is_some(),
            config: steered.listens(),
        };
        // Last of what can fail by configuration, so that no client connects
        // to an agent that does not start.
        let permissions = Permissions::new(
            getuid().as_raw(),
            &config.intake.allow,
            listens_to.decisions,
        );
        let intake = Intake::listen(&config.intake, permissions)?;

        let now = Uptime(clock::uptime_ms());
        let has_file = open.has_file();
        let start = opening::start(&open, &config);
        let epoch = start.epoch;
        let decisions = Decisions::new(
            &identity.device,
            start.boot_id,
            open.found(),
            steered.in_force().decision_keys.clone(),
            now,
        );
        let settings = settings::delivery(&config, steered.in_force().pace);
        let mut delivery = open.each_batch(|batches| Delivery::new(settings, start, batches, now));
        if !has_file {
            delivery.handle(Input::RebuildFailed, now);
        }

        let brokers = config.link.brokers.clone();
        let addresses = u32::try_from(brokers.len())
            .ok()
            .and_then(NonZeroU32::new)
            .unwrap_or(NonZeroU32::MIN);
        let reconnect = Reconnect::new(
            settings::reconnect(&config, steered.in_force().reconnect_spread),
            &identity.device,
            addresses,
            clock::random_u64(),
        );
        let link_config = LinkConfig {
            device: identity.device.clone(),
            brokers,
            tls,
            keep_alive: config.link.keep_alive,
            connect_timeout: config.link.connect_timeout,
            acknowledgement_timeout: config.link.acknowledgement_timeout,
            in_flight_max: settings::IN_FLIGHT_MAX,
            listens_to,
        };
        let link = Link::new(link_config, epoch);
        info!(
            device = %identity.device,
            %epoch,
            version = env!("CARGO_PKG_VERSION"),
            sqlite = queue::sqlite_version(),
            socket = %config.intake.socket.display(),
            "started"
        );
        Ok(Self {
            device: identity.device,
            epoch,
            delivery,
            queue: open.spawn()?,
            link,
            intake,
            decisions,
            steered,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            dialling: Dialling::new(reconnect, now),
            timekeeping: Timekeeping::new(trusted, now),
            health_due: config.health_interval.map(|interval| now.plus(interval)),
            flash_budget_spent: false,
            clients: Clients::default(),
            stop: Stop::default(),
            config,
        })
    }
}
