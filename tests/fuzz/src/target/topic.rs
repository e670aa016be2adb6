//! An MQTT topic as a broker hands it over, and the ids that people type.

use returnpath_shared::{
    BatchId, DeviceId, Downlink, Epoch, IdError, Lane, TopicError, Uplink, presence_topic,
};

use crate::seed;

/// What is read is printed as it was, and nothing else is taken.
pub fn run(input: &[u8]) {
    // A broker's topics are UTF-8, a packet's need not be.
    let Ok(text) = str::from_utf8(input) else {
        assert!(!DeviceId::is_valid(input));
        return;
    };
    match Uplink::parse(text) {
        Ok(uplink) => {
            assert_eq!(uplink.to_string(), text);
            // A box writes below its own name only: that is what access
            // control goes by.
            let below = text.strip_prefix("rp/v1/").unwrap();
            let behind = below.strip_prefix(uplink.device.as_str()).unwrap();
            assert!(["/events/live", "/events/backlog"].contains(&behind));
        }
        Err(TopicError::Device(IdError::Device { .. })) => {
            assert!(text.starts_with("rp/v1/"));
        }
        Err(error) => assert_eq!(error, TopicError::Shape),
    }
    device(text);
    epoch(text);
}

fn device(text: &str) {
    match text.parse::<DeviceId>() {
        Ok(device) => {
            assert!(DeviceId::is_valid(text.as_bytes()));
            assert_eq!(device.to_string(), text);
            for lane in Lane::ALL {
                let uplink = Uplink {
                    device: device.clone(),
                    lane,
                };
                assert_eq!(Uplink::parse(&uplink.to_string()), Ok(uplink));
            }
            let down = [Downlink::Receipts, Downlink::Decisions, Downlink::Config];
            let down = down.map(|downlink| downlink.topic(&device));
            for other in down.into_iter().chain([presence_topic(&device)]) {
                assert_eq!(Uplink::parse(&other), Err(TopicError::Shape), "{other}");
            }
        }
        Err(error) => {
            assert!(!DeviceId::is_valid(text.as_bytes()));
            assert_eq!(error, IdError::Device { length: text.len() });
        }
    }
}

fn epoch(text: &str) {
    match text.parse::<Epoch>() {
        Ok(epoch) => {
            // Digits may be written in more than one way; what they say is not.
            assert_eq!(epoch.to_string().parse(), Ok(epoch));
            let id = BatchId {
                epoch,
                sequence: returnpath_shared::Sequence::FIRST,
            };
            assert_eq!(
                BatchId::try_from(returnpath_shared::wire::BatchId::from(id)),
                Ok(id)
            );
        }
        Err(error) => assert_eq!(error, IdError::Epoch),
    }
}

/// Topics of one box, and its ids.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let device = seed::device();
    let uplinks = Lane::ALL.map(|lane| {
        let device = device.clone();
        Uplink { device, lane }.to_string()
    });
    let others = [
        Downlink::Decisions.topic(&device),
        presence_topic(&device),
        device.to_string(),
        "00000000000000ab.12".to_owned(),
        format!("rp/v1/{}/events/live", "x".repeat(65)),
    ];
    let all = uplinks.into_iter().chain(others);
    all.map(String::into_bytes).collect()
}
