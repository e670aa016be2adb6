//! Configuration from the cloud: the signed message as it comes, and the same
//! bytes signed by the operator, who may be wrong too.

use std::{sync::LazyLock, time::Duration};

use prost::Message as _;
use returnpath_agent::{
    steering::{self, ConfigRefusal, Settings},
    trust::Keys,
};
use returnpath_delivery::Pace;
use returnpath_shared::{
    SIGNED_CONFIG_BYTES_MAX, check_config,
    wire::{Config, SignedConfig},
};
use ring::{
    digest::{SHA256, digest},
    signature::{Ed25519KeyPair, KeyPair as _},
};

use crate::seed;

/// The operator's, in a test.
static KEY: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap());

/// Nothing is taken that the operator did not sign; what is taken lies within
/// its ranges, and what is refused names its field.
pub fn run(input: &[u8]) {
    let (device, of_file) = (seed::device(), of_file());
    let keys = Keys::of_raw(&[KEY.public_key()], steering::PURPOSE).unwrap();
    let stray = steering::read(input, &device, &keys, &of_file);
    if let Err(refusal) = stray {
        named(&refusal);
        assert!(matches!(
            refusal,
            ConfigRefusal::Forged | ConfigRefusal::Malformed
        ));
    } else {
        // Found in a seed, or signed by chance.
        let signed = SignedConfig::decode(input).unwrap();
        let message = [steering::PURPOSE, &signed.config].concat();
        assert_eq!(KEY.sign(&message).as_ref(), &signed.signature[..]);
    }

    let message = signed(input);
    let read = steering::read(&message, &device, &keys, &of_file);
    let Ok(config) = Config::decode(input) else {
        assert_eq!(read, Err(ConfigRefusal::Malformed));
        return;
    };
    match read {
        Ok((version, settings)) => {
            check_config(&config).expect("whoever signs it checks the same");
            assert_eq!(version, config.version);
            assert!(config.device_id.is_empty() || config.device_id == seed::DEVICE);
            within(&config, &settings, &of_file);
            let again = signed(&config.encode_to_vec());
            let again = steering::read(&again, &device, &keys, &of_file);
            assert_eq!(again, Ok((version, settings)));
        }
        Err(refusal) => {
            named(&refusal);
            match refusal {
                ConfigRefusal::OutOfRange(_) => assert!(check_config(&config).is_err()),
                ConfigRefusal::Foreign => assert_ne!(config.device_id, seed::DEVICE),
                ConfigRefusal::Malformed => assert!(message.len() > SIGNED_CONFIG_BYTES_MAX),
                ConfigRefusal::Forged | ConfigRefusal::Unstored | ConfigRefusal::TooMany => {
                    panic!("{refusal}")
                }
            }
        }
    }
}

fn within(config: &Config, settings: &Settings, of_file: &Settings) {
    let Pace {
        batch_interval,
        window_batches_max,
        backlog_rate,
    } = settings.pace;
    let seconds = |from, to| Duration::from_secs(from)..=Duration::from_secs(to);
    assert!(seconds(1, 300).contains(&batch_interval));
    assert!((1..=64).contains(&window_batches_max));
    assert!(backlog_rate <= 1_000);
    assert!(seconds(0, 3_600).contains(&settings.reconnect_spread));
    assert!(settings.decision_keys.is_some());
    let nothing_said = Config {
        version: config.version,
        device_id: config.device_id.clone(),
        ..Config::default()
    };
    if *config == nothing_said {
        assert_eq!(settings, of_file);
    }
}

fn named(refusal: &ConfigRefusal) {
    let text = refusal.to_string();
    if let ConfigRefusal::OutOfRange(error) = refusal {
        assert!(!error.field.is_empty() && text.contains(&error.field));
        assert!(!error.expected.is_empty());
    }
    assert!(!text.is_empty() && !refusal.name().is_empty());
}

fn signed(config: &[u8]) -> Vec<u8> {
    let hash = digest(&SHA256, KEY.public_key().as_ref());
    let key_id = hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}"));
    SignedConfig {
        config: config.to_vec().into(),
        key_id: key_id.collect(),
        signature: KEY
            .sign(&[steering::PURPOSE, config].concat())
            .as_ref()
            .to_vec()
            .into(),
    }
    .encode_to_vec()
}

fn of_file() -> Settings {
    Settings {
        pace: Pace {
            batch_interval: Duration::from_secs(5),
            window_batches_max: 32,
            backlog_rate: 50,
        },
        reconnect_spread: Duration::from_secs(60),
        decision_keys: Keys::of_raw(&[[3; 32]], returnpath_slots::PURPOSE),
    }
}

/// All fields, none, and a whole signed message.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let all = Config {
        version: 9,
        device_id: seed::DEVICE.into(),
        batch_interval_ms: Some(10_000),
        window_batches_max: Some(64),
        backlog_rate: Some(0),
        reconnect_spread_ms: Some(3_600_000),
        decision_keys: vec![vec![1; 32].into(), vec![2; 32].into()],
    };
    let least = Config {
        version: 1,
        ..Config::default()
    };
    let foreign = Config {
        device_id: "another".into(),
        ..all.clone()
    };
    let out_of_range = Config {
        window_batches_max: Some(65),
        ..all.clone()
    };
    let mut seeds: Vec<_> = [&all, &least, &foreign, &out_of_range]
        .map(|config| config.encode_to_vec())
        .into();
    seeds.push(signed(&all.encode_to_vec()));
    seeds
}
