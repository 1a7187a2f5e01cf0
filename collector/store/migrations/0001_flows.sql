CREATE TABLE exporter (
    id {id},
    address TEXT NOT NULL UNIQUE
);
CREATE TABLE segment (
    id {id},
    path TEXT NOT NULL UNIQUE,
    level INTEGER NOT NULL,
    rows {big} NOT NULL,
    bytes {big} NOT NULL,
    sha256 TEXT NOT NULL,
    received_from_ms {big} NOT NULL,
    received_until_ms {big} NOT NULL,
    first_ms {big} NOT NULL,
    last_ms {big} NOT NULL,
    odd_first_ms {big},
    odd_last_ms {big},
    journal_after {big} NOT NULL,
    journal_until {big} NOT NULL,
    parked_bytes {big} NOT NULL,
    columns TEXT NOT NULL,
    clients {bytes} NOT NULL,
    damaged TEXT
);
CREATE INDEX segment_received ON segment (received_from_ms);
CREATE INDEX segment_journal ON segment (journal_until);
CREATE TABLE gone (
    path TEXT PRIMARY KEY,
    at_ms {big} NOT NULL
);
CREATE TABLE loss (
    id {id},
    exporter {big} NOT NULL,
    since_ms {big} NOT NULL,
    until_ms {big} NOT NULL,
    flows {big} NOT NULL,
    cause TEXT NOT NULL,
    journal_until {big} NOT NULL
);
CREATE INDEX loss_until ON loss (until_ms);
CREATE TABLE kept (
    name TEXT PRIMARY KEY,
    value {bytes} NOT NULL
);
CREATE TABLE hold (
    id {id},
    since_ms {big} NOT NULL,
    until_ms {big} NOT NULL,
    reason TEXT NOT NULL,
    who TEXT NOT NULL,
    at_ms {big} NOT NULL,
    released_by TEXT,
    released_ms {big}
);
CREATE TABLE total_minute (
    kind INTEGER NOT NULL,
    at {big} NOT NULL,
    exporter {big} NOT NULL,
    thing {bytes} NOT NULL,
    flows {big} NOT NULL,
    packets {big} NOT NULL,
    bytes {big} NOT NULL,
    up_bytes {big} NOT NULL,
    PRIMARY KEY (kind, at, exporter, thing)
){clustered};
CREATE TABLE total_hour (
    kind INTEGER NOT NULL,
    at {big} NOT NULL,
    exporter {big} NOT NULL,
    thing {bytes} NOT NULL,
    flows {big} NOT NULL,
    packets {big} NOT NULL,
    bytes {big} NOT NULL,
    up_bytes {big} NOT NULL,
    PRIMARY KEY (kind, at, exporter, thing)
){clustered};
CREATE TABLE total_day (
    kind INTEGER NOT NULL,
    at {big} NOT NULL,
    exporter {big} NOT NULL,
    thing {bytes} NOT NULL,
    flows {big} NOT NULL,
    packets {big} NOT NULL,
    bytes {big} NOT NULL,
    up_bytes {big} NOT NULL,
    PRIMARY KEY (kind, at, exporter, thing)
){clustered};
