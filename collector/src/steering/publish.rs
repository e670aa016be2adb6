//! `config publish`: a signed message to the topics of boxes, retained, each
//! confirmed by the broker. Looks first at everything that would have boxes
//! refuse it, because the broker forgets the message before it.
//!
//! `sending` is what is still to be confirmed, `session` one connection,
//! `report` what a person is told.

mod report;
mod sending;
mod session;

use std::{collections::BTreeSet, io::Write, path::PathBuf, process::ExitCode, time::Duration};

use returnpath_shared::DeviceId;
use thiserror::Error;
use tokio::{task, time};
use tracing::warn;

use self::{report::Report, sending::Sending};
use super::{
    Error, Surroundings, boxes,
    config::{self, ConfigError, SECTION},
    signed::Signed,
};
use crate::{kafka::ReadError, mqtt, node_id::NodeId};

/// Time for a connection to stand: TCP, TLS and CONNECT.
const DIAL_MAX: Duration = Duration::from_secs(10);

/// A broker that confirms nothing for this long is no use; also well within the
/// keep-alive, so that nothing need be sent for its sake.
const CONFIRMATION_MAX: Duration = Duration::from_secs(10);

/// Connections in a row that confirm nothing until the command gives up: with
/// pauses some seconds, for a person who waits; each broker of a cluster of
/// three is asked twice.
const FRUITLESS_MAX: u32 = 6;

/// What to publish, and to whom.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Signed message, as `config sign` writes it.
    file: PathBuf,
    /// A box that gets it; may be given more than once. Where the message names
    /// its box, that one, and no other.
    #[arg(long = "device", value_name = "ID")]
    devices: Vec<DeviceId>,
    /// Every box that rp.devices knows; reads Kafka.
    #[arg(long, conflicts_with = "devices")]
    all: bool,
    /// Do everything but connect to the broker, and say where it would go.
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object a box.
    #[arg(long)]
    json: bool,
}

/// Why nothing was published, or not to every box.
#[derive(Debug, Error)]
pub(super) enum PublishError {
    /// The message names another box.
    #[error("{path} is for {named}: {given} would refuse it as another box's")]
    OtherBox {
        path: PathBuf,
        named: DeviceId,
        given: String,
    },
    /// The message is for every box, and the command names none.
    #[error("{path} is for every box: name those that get it with --device, or give --all")]
    NoBox { path: PathBuf },
    /// Boxes would refuse it.
    #[error("{path}: signed with key {key_id}, by none of steering.config_keys: boxes refuse it")]
    Forged { path: PathBuf, key_id: String },
    /// The boxes cannot be found.
    #[error("--all")]
    Boxes(#[from] ReadError),
    /// The thread that reads Kafka ended.
    #[error("--all: the reading thread ended")]
    Reading(#[from] task::JoinError),
}

pub(super) async fn run(
    args: Args,
    surroundings: Surroundings,
    out: &mut impl Write,
) -> Result<ExitCode, Error> {
    let signed = Signed::read(&args.file)?;
    let Surroundings {
        node_id,
        kafka,
        steering,
    } = surroundings;
    let steering = steering.ok_or(ConfigError::Missing)?;
    let keys = steering.open()?;
    if !signed.is_signed_by(&keys) {
        return Err(PublishError::Forged {
            path: args.file.clone(),
            key_id: signed.key_id().to_owned(),
        }
        .into());
    }
    let boxes = match named(&args, &signed)? {
        Some(boxes) => boxes,
        None => {
            // Reading Kafka blocks its thread.
            let read = task::spawn_blocking(move || boxes::all(&kafka)).await;
            read.map_err(PublishError::Reading)?
                .map_err(PublishError::Boxes)?
        }
    };
    let report = Report {
        version: signed.config.version,
        as_json: args.json,
    };
    if args.dry_run {
        return report.dry_run(&boxes, out);
    }
    let mut sending = Sending::new(boxes, signed.message.clone());
    let failed = publish(&steering.mqtt, &node_id, &mut sending).await;
    report.done(sending, failed, out)
}

/// The boxes that the command line or the message names; `None` for all.
fn named(args: &Args, signed: &Signed) -> Result<Option<BTreeSet<DeviceId>>, PublishError> {
    let given: BTreeSet<DeviceId> = args.devices.iter().cloned().collect();
    let path = || args.file.clone();
    // It was checked: what does not parse is empty, and means every box.
    let Ok(named) = signed.config.device_id.parse::<DeviceId>() else {
        return match (args.all, given.is_empty()) {
            (true, _) => Ok(None),
            (false, true) => Err(PublishError::NoBox { path: path() }),
            (false, false) => Ok(Some(given)),
        };
    };
    let other = given.into_iter().find(|device| *device != named);
    let other = other.map(|device| device.to_string());
    match other.or_else(|| args.all.then(|| "every other box".to_owned())) {
        Some(given) => Err(PublishError::OtherBox {
            path: path(),
            named,
            given,
        }),
        None => Ok(Some(BTreeSet::from([named]))),
    }
}

/// Publishes until everything is confirmed, or connections are fruitless; then
/// says why the last one was.
async fn publish(config: &config::Mqtt, node_id: &NodeId, sending: &mut Sending) -> Option<String> {
    let client_id = format!("{node_id}-config");
    let session = mqtt::Session {
        section: SECTION,
        tls: &config.tls,
        client_id: &client_id,
        // Nobody publishes to us.
        receive_maximum: 1,
    };
    let mut fruitless = 0;
    for broker in config.brokers.iter().cycle() {
        if sending.is_done() {
            return None;
        }
        let confirmed_before = sending.confirmed();
        let failed = match time::timeout(DIAL_MAX, mqtt::dial(broker, session)).await {
            Err(_) => format!("no connection within {} s", DIAL_MAX.as_secs()),
            Ok(Err(cause)) => mqtt::chain(&cause),
            Ok(Ok((_, Some(properties)))) if properties.retain_available == Some(0) => {
                mqtt::chain(&mqtt::DialError::Lacks("retained messages"))
            }
            Ok(Ok((socket, properties))) => {
                let receive_maximum = properties.and_then(|properties| properties.receive_max);
                sending.connected(receive_maximum);
                match session::serve(socket, sending, CONFIRMATION_MAX).await {
                    Ok(()) => return None,
                    Err(cause) => mqtt::chain(&cause),
                }
            }
        };
        if sending.confirmed() > confirmed_before {
            fruitless = 0;
        }
        fruitless += 1;
        if fruitless >= FRUITLESS_MAX {
            return Some(format!("{broker}: {failed}"));
        }
        let pause = mqtt::pause(fruitless);
        warn!(%broker, "{failed}; trying again");
        time::sleep(pause).await;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steering::signed::tests::{Folder, signed};

    fn named_by(device: &str, given: &[&str], all: bool) -> Result<Option<usize>, String> {
        let folder = Folder::new(&format!("named-{device}-{}-{all}", given.join("-")));
        let args = Args {
            file: folder.path("message"),
            devices: given.iter().map(|id| id.parse().unwrap()).collect(),
            all,
            dry_run: false,
            json: false,
        };
        let (signed, _) = signed(&folder, device);
        named(&args, &signed)
            .map(|boxes| boxes.map(|boxes| boxes.len()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_message_goes_to_the_boxes_that_are_named_and_would_take_it() {
        assert_eq!(named_by("", &["a", "b", "a"], false), Ok(Some(2)));
        assert_eq!(named_by("", &[], true), Ok(None));
        assert_eq!(named_by("a", &[], false), Ok(Some(1)));
        assert_eq!(named_by("a", &["a"], false), Ok(Some(1)));
        let refused = named_by("", &[], false).unwrap_err();
        assert!(refused.contains("--device"), "{refused}");
        let refused = named_by("a", &["a", "b"], false).unwrap_err();
        assert!(refused.contains("is for a: b would refuse it"), "{refused}");
        let refused = named_by("a", &[], true).unwrap_err();
        assert!(refused.contains("every other box"), "{refused}");
    }
}
