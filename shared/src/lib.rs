//! What crosses the wire between a box and the cloud, and nothing else:
//! messages, ids, MQTT topics, packing, limits, and the table that says how
//! each kind of event is treated. Does no I/O and reads no clock.

mod check;
mod codec;
mod hex;
mod id;
mod kind;
mod limit;
mod proof;
mod topic;
pub mod wire;

pub use check::{FieldError, check, check_config};
pub use codec::{PackError, Packed, UnpackError, pack, pack_encoded, unpack};
pub use hex::hex;
pub use id::{BatchId, DeviceId, Epoch, IdError, Incarnation, Ordinal, Sequence};
pub use kind::{Class, Kind, Stream, Urgency};
pub use limit::*;
pub use proof::ProofKey;
pub use topic::{Downlink, Lane, TopicError, UPLINK_FILTER, Uplink, presence_topic};
