//! Every bound that both ends must agree on, with its reason. Sizes are
//! ordered so that what one stage takes the next can carry:
//! line < batch < envelope < MQTT packet < raw record < rejected record.

/// Longest request line on the agent's socket, in bytes without the newline.
/// The largest event (32 attributes of 64 + 512 bytes) takes 19 KiB of JSON.
pub const LINE_BYTES_MAX: usize = 32 * 1024;

/// A batch is closed before its encoded size passes this. Larger batches
/// compress no better, and a lost packet costs a resend of the whole.
pub const BATCH_BYTES_MAX: usize = 48 * 1024;

/// Events in one batch: bounds what one batch makes refine do.
pub const BATCH_EVENTS_MAX: usize = 1_024;

/// Packed batch with its envelope: the batch when it does not compress, plus
/// at most 16 ids of 24 bytes and the fixed fields.
pub const ENVELOPE_BYTES_MAX: usize = BATCH_BYTES_MAX + 1_024;

/// Largest MQTT packet either end takes: envelope, topic and header.
pub const MQTT_PACKET_BYTES_MAX: usize = ENVELOPE_BYTES_MAX + 1_024;

/// Largest record in `rp.raw`: the envelope with Kafka's framing and headers.
pub const RAW_RECORD_BYTES_MAX: usize = 128 * 1024;

/// Largest record in `rp.rejected`: a raw record and what was wrong with it.
pub const REJECTED_RECORD_BYTES_MAX: usize = 256 * 1024;

/// Unpacked size beyond which a batch is refused: what the agent closes at,
/// with room for a later version that closes later; stops deflate bombs.
pub const UNPACKED_BYTES_MAX: usize = 256 * 1024;

/// Incarnations named in one envelope, and kept per device by refine. A box
/// that lost its queue file this often has a broken flash.
pub const INCARNATIONS_MAX: usize = 16;

/// Rows of a box's ledger, past which it evicts nothing more: as many ranges
/// may it declare lost at once, and refine remembers per device. Only boxes
/// whose classes alternate over thousands of batches come near it.
pub const LEDGER_ROWS_MAX: usize = 1_024;

/// Largest ids and names given by clients, in bytes.
pub const CLIENT_ID_BYTES_MAX: usize = 64;

/// Slots in one ad break.
pub const SLOTS_MAX: usize = 16;

/// Attributes of a custom event.
pub const ATTRIBUTES_MAX: usize = 32;

/// Bytes of an attribute's key.
pub const ATTRIBUTE_KEY_BYTES_MAX: usize = 64;

/// Bytes of an attribute's value.
pub const ATTRIBUTE_VALUE_BYTES_MAX: usize = 512;

/// Bytes of a content id: programme and asset ids are URNs or CRIDs.
pub const CONTENT_ID_BYTES_MAX: usize = 128;

/// Clock anchors in one boot event, and kept per device by refine: a box that
/// holds batches of more boots than this reboots in a loop.
pub const ANCHORS_MAX: usize = 64;

/// Bytes of the mount options in a boot event; longer ones are cut.
pub const MOUNT_OPTIONS_BYTES_MAX: usize = 512;

/// Longest URL of a creative: what players and content networks agree to take.
pub const CREATIVE_URL_BYTES_MAX: usize = 2_048;

/// Longest media type of a creative: a type and a subtype of 63 characters.
pub const MEDIA_TYPE_BYTES_MAX: usize = 127;

/// Largest signed decision as it travels: the URL, ids, signature, and as much
/// again for what a later version adds. A box keeps some of these in RAM.
pub const SIGNED_DECISION_BYTES_MAX: usize = 4 * 1024;

/// Largest signed configuration as it travels.
pub const SIGNED_CONFIG_BYTES_MAX: usize = 4 * 1024;

/// Keys of one kind that a box trusts at once: two during a rotation, and room
/// for a second one to begin.
pub const TRUSTED_KEYS_MAX: usize = 4;
