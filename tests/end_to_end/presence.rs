//! Whether a box is connected, as the broker keeps it for whoever asks later.
//! No collector and no Kafka: presence must not need them.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use prost::Message as _;
use returnpath_shared::{
    DeviceId, presence_topic,
    wire::{Presence, PresenceState},
};
use returnpath_tests::{
    agent::{Agent, Settings},
    mosquitto::Mosquitto,
    mqtt_client::MqttClient,
    pki::DevelopmentPki,
    place,
    wait::wait_until,
};

const CERTIFICATES_VALID: Duration = Duration::from_secs(3_600);

/// From a change to its being told: a reconnect, on a loaded machine.
const TELL_LIMIT: Duration = Duration::from_secs(60);

const STOP_LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn the_broker_knows_which_connection_of_a_box_is_alive_or_gone() -> anyhow::Result<()> {
    let directory = place::fresh_directory("presence")?;
    let pki = DevelopmentPki::create(&directory.join("pki"), CERTIFICATES_VALID)?;
    let mut mosquitto = Mosquitto::start(&pki).await?;
    let device: DeviceId = "box-1".parse()?;
    let port = mosquitto.port();
    let reader = MqttClient {
        port,
        authority: pki.authority(),
        identity: Some(pki.collector("collector-a")),
        client_id: "collector-a".to_owned(),
    };
    let topic = presence_topic(&device);
    let told = async |state: PresenceState, after: &Presence| {
        wait_until(state.as_str_name(), TELL_LIMIT, async || {
            let bytes = reader.retained(&topic).await?.context("nothing retained")?;
            let presence = Presence::decode(&bytes[..])?;
            ensure!(
                presence.state() == state && presence != *after,
                "{presence:?}"
            );
            Ok(presence)
        })
        .await
    };

    let mut agent = Agent::prepare(&device, &directory, &pki, port, Settings::default())?;
    agent.start().await?;
    let first = told(PresenceState::Online, &Presence::default()).await?;
    let incarnation = |presence: &Presence| presence.epoch.map(|epoch| epoch.incarnation);
    let place_in_time = |presence: &Presence| {
        let start = presence.epoch.map(|epoch| epoch.start);
        (start, presence.connection)
    };
    assert_eq!(place_in_time(&first), (Some(1), 1));

    // A box that loses power says nothing: its will does.
    agent.kill()?;
    let will = told(PresenceState::Offline, &first).await?;
    assert_eq!(will.epoch, first.epoch);
    assert_eq!(will.connection, first.connection);

    // The numbers of the next run are higher, although nothing kept the last.
    agent.start().await?;
    let second = told(PresenceState::Online, &first).await?;
    assert_eq!(incarnation(&second), incarnation(&first));
    assert!(
        place_in_time(&second) > place_in_time(&first),
        "{second:?} after {first:?}"
    );

    // Within a run the connection's number tells.
    mosquitto.kill()?;
    mosquitto.resume().await?;
    let third = told(PresenceState::Online, &second).await?;
    assert_eq!(third.epoch, second.epoch);
    assert!(
        third.connection > second.connection,
        "{third:?} after {second:?}"
    );

    let status = agent.terminate(STOP_LIMIT).await?;
    assert!(status.success(), "{status}");
    let goodbye = told(PresenceState::Offline, &third).await?;
    assert_eq!(goodbye.epoch, third.epoch);
    assert_eq!(goodbye.connection, third.connection);
    Ok(())
}
