-- Version 1. Later versions only add (tables, columns with a default), so that
-- an older agent can go on with a newer file after a rollback of the firmware.
-- 64-bit numbers are stored as SQLite's signed integers, bit for bit.

-- One row: the queue file itself.
CREATE TABLE queue (
    id             INTEGER PRIMARY KEY CHECK (id = 0),
    incarnation    INTEGER NOT NULL,
    -- Starts so far.
    start          INTEGER NOT NULL DEFAULT 0,
    -- 1 when the last run closed the file in order and saw no damage.
    clean          INTEGER NOT NULL DEFAULT 1,
    -- Latest trusted wall clock, seconds since 1970.
    trusted_unix_s INTEGER NOT NULL DEFAULT 0
);

-- Epochs of which batches are held, in the order of their first batch.
CREATE TABLE epoch (
    id          INTEGER PRIMARY KEY,
    incarnation INTEGER NOT NULL,
    start       INTEGER NOT NULL,
    UNIQUE (incarnation, start)
);

-- Batches. The key is epoch.id * 2^40 + sequence, so that the rowid is the only
-- index and a range of sequences is a range of rows.
CREATE TABLE batch (
    key           INTEGER PRIMARY KEY,
    boot_id       INTEGER NOT NULL,
    class         INTEGER NOT NULL,
    codec         INTEGER NOT NULL,
    first_ordinal INTEGER NOT NULL,
    events        INTEGER NOT NULL,
    viewing       INTEGER NOT NULL,
    opened_s      INTEGER NOT NULL,
    -- FNV-1a, 64 bit, of the columns above and the bytes: SQLite has no
    -- checksums of its own.
    checksum      INTEGER NOT NULL,
    bytes         BLOB NOT NULL
);

-- Drops that the cloud has not confirmed.
CREATE TABLE ledger (
    number         INTEGER PRIMARY KEY,
    reason         INTEGER NOT NULL,
    refusal        INTEGER NOT NULL,
    incarnation    INTEGER NOT NULL,
    start          INTEGER NOT NULL,
    first_sequence INTEGER NOT NULL,
    last_sequence  INTEGER NOT NULL,
    first_ordinal  INTEGER NOT NULL,
    event_count    INTEGER NOT NULL,
    whole_epoch    INTEGER NOT NULL
);

-- Recent proof events, so that a repeat gets the first answer.
CREATE TABLE proof (
    number      INTEGER PRIMARY KEY,
    key         BLOB NOT NULL,
    incarnation INTEGER NOT NULL,
    start       INTEGER NOT NULL,
    ordinal     INTEGER NOT NULL
);

-- Clock anchors, by boot.
CREATE TABLE anchor (
    boot_id   INTEGER PRIMARY KEY,
    uptime_ms INTEGER NOT NULL,
    unix_ms   INTEGER NOT NULL
);

-- Starts that have not ended cleanly, or not yet.
CREATE TABLE start (
    incarnation      INTEGER NOT NULL,
    start            INTEGER NOT NULL,
    settled_ordinal  INTEGER NOT NULL,
    settled_sequence INTEGER NOT NULL,
    PRIMARY KEY (incarnation, start)
) WITHOUT ROWID;

-- At most one row: the powered clock as last committed.
CREATE TABLE powered (
    id         INTEGER PRIMARY KEY CHECK (id = 0),
    boot_id    INTEGER NOT NULL,
    uptime_ms  INTEGER NOT NULL,
    powered_ms INTEGER NOT NULL
);
