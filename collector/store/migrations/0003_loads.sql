ALTER TABLE segment ADD COLUMN state INTEGER NOT NULL DEFAULT 0;
CREATE INDEX segment_state ON segment (state);
CREATE TABLE begun (
    load {big} PRIMARY KEY,
    segment {big} NOT NULL,
    sha256 TEXT NOT NULL,
    shard INTEGER NOT NULL,
    day TEXT NOT NULL,
    was INTEGER NOT NULL,
    at_ms {big} NOT NULL,
    absent_ms {big},
    over INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE loaded (
    load {big} PRIMARY KEY,
    sha256 TEXT NOT NULL,
    shard INTEGER NOT NULL,
    day TEXT NOT NULL,
    rows {big} NOT NULL,
    journal_after {big} NOT NULL,
    journal_until {big} NOT NULL,
    received_from_ms {big} NOT NULL,
    received_until_ms {big} NOT NULL,
    first_ms {big} NOT NULL,
    last_ms {big} NOT NULL,
    odd_first_ms {big},
    odd_last_ms {big},
    copied INTEGER NOT NULL DEFAULT 0,
    replaced INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX loaded_received ON loaded (received_until_ms);
CREATE INDEX loaded_sha256 ON loaded (sha256);
