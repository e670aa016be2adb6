-- Version 2: the way back.

-- Slots that are bound to a decision. What keeps a slot bound stands beside the
-- message, so that a message that cannot be read frees no slot.
CREATE TABLE slot (
    boot_id          INTEGER NOT NULL,
    break_id         TEXT NOT NULL,
    slot             INTEGER NOT NULL,
    decision_id      TEXT NOT NULL,
    expiry_uptime_ms INTEGER NOT NULL,
    -- The signed decision as it came: its signature is its checksum.
    signed           BLOB NOT NULL,
    PRIMARY KEY (boot_id, break_id, slot)
) WITHOUT ROWID;

-- At most one row: the signed configuration with the highest version so far.
CREATE TABLE config (
    id      INTEGER PRIMARY KEY CHECK (id = 0),
    version INTEGER NOT NULL,
    signed  BLOB NOT NULL
);
