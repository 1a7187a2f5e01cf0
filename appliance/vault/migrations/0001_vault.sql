-- The vault's catalogue: who may store what where, every version, and when it was seen at which path.
CREATE TABLE vault (
    id {id},
    name TEXT NOT NULL UNIQUE,
    quota_bytes {big},
    quota_files {big},
    networks TEXT NOT NULL DEFAULT '',
    tls_only {flag} NOT NULL DEFAULT {false},
    rate_bps {big} NOT NULL DEFAULT 0,
    max_sessions INTEGER NOT NULL DEFAULT 10,
    keep_days INTEGER NOT NULL DEFAULT 30,
    keep_versions INTEGER NOT NULL DEFAULT 3,
    lock_days INTEGER NOT NULL DEFAULT 0,
    schedule TEXT NOT NULL DEFAULT '',
    used_bytes {big} NOT NULL DEFAULT 0,
    used_files {big} NOT NULL DEFAULT 0,
    created_at {big} NOT NULL,
    removed_at {big}
);
CREATE TABLE credential (
    id {id},
    vault_id INTEGER NOT NULL REFERENCES vault (id) ON DELETE CASCADE,
    login TEXT NOT NULL UNIQUE,
    password TEXT NOT NULL,
    kind TEXT NOT NULL DEFAULT 'full',
    networks TEXT NOT NULL DEFAULT '',
    created_at {big} NOT NULL,
    used_at {big},
    used_from TEXT NOT NULL DEFAULT ''
);
CREATE INDEX credential_vault ON credential (vault_id);
CREATE TABLE object (
    sha256 TEXT NOT NULL PRIMARY KEY,
    bytes {big} NOT NULL,
    stored_at {big} NOT NULL,
    verified_at {big} NOT NULL,
    state TEXT NOT NULL DEFAULT 'good'
);
CREATE INDEX object_verified ON object (verified_at);
CREATE TABLE version (
    id {big} NOT NULL PRIMARY KEY,
    vault_id INTEGER NOT NULL REFERENCES vault (id),
    path TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    bytes {big} NOT NULL,
    confirmed {flag} NOT NULL,
    why TEXT NOT NULL DEFAULT '',
    stored_ms {big} NOT NULL,
    stored_age {big} NOT NULL,
    left_age {big},
    locked_age {big} NOT NULL DEFAULT 0,
    login TEXT NOT NULL DEFAULT '',
    address TEXT NOT NULL DEFAULT ''
);
CREATE INDEX version_path ON version (vault_id, path, stored_ms);
CREATE INDEX version_sha256 ON version (sha256);
CREATE INDEX version_left ON version (left_age);
CREATE TABLE span (
    id {id},
    vault_id INTEGER NOT NULL REFERENCES vault (id),
    folder TEXT NOT NULL,
    name TEXT NOT NULL,
    version_id {big} REFERENCES version (id),
    modified_s {big} NOT NULL,
    from_ms {big} NOT NULL,
    until_ms {big}
);
CREATE INDEX span_place ON span (vault_id, folder, name, from_ms);
CREATE UNIQUE INDEX span_now ON span (vault_id, folder, name) WHERE until_ms IS NULL;
CREATE INDEX span_version ON span (version_id);
CREATE TABLE event (
    n {big} NOT NULL PRIMARY KEY,
    vault_id INTEGER NOT NULL REFERENCES vault (id),
    at_ms {big} NOT NULL,
    event TEXT NOT NULL,
    path TEXT NOT NULL DEFAULT '',
    target TEXT NOT NULL DEFAULT '',
    version_id {big},
    bytes {big},
    login TEXT NOT NULL DEFAULT '',
    address TEXT NOT NULL DEFAULT ''
);
CREATE INDEX event_vault ON event (vault_id, n);
CREATE TABLE reservation (
    id {id},
    vault_id INTEGER NOT NULL REFERENCES vault (id),
    spool TEXT NOT NULL UNIQUE,
    path TEXT NOT NULL,
    bytes {big} NOT NULL,
    files INTEGER NOT NULL,
    login TEXT NOT NULL DEFAULT '',
    at_ms {big} NOT NULL
);
CREATE INDEX reservation_vault ON reservation (vault_id);
CREATE TABLE head (
    id INTEGER NOT NULL PRIMARY KEY,
    n {big} NOT NULL,
    sha256 TEXT NOT NULL,
    bytes {big} NOT NULL,
    at_ms {big} NOT NULL,
    age_ms {big} NOT NULL,
    boot TEXT NOT NULL DEFAULT '',
    boot_ms {big} NOT NULL DEFAULT 0
);
CREATE TABLE asked (
    id {id},
    verb TEXT NOT NULL,
    arguments TEXT NOT NULL,
    at_ms {big} NOT NULL,
    answer TEXT
);
CREATE TABLE learned (
    id {id},
    vault_id INTEGER NOT NULL REFERENCES vault (id) ON DELETE CASCADE,
    series TEXT NOT NULL,
    every_s {big} NOT NULL,
    last_at {big} NOT NULL,
    samples INTEGER NOT NULL,
    late_since {big}
);
CREATE UNIQUE INDEX learned_series ON learned (vault_id, series);
CREATE TABLE fault (
    id {id},
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    text TEXT NOT NULL,
    at_ms {big} NOT NULL,
    mount TEXT NOT NULL DEFAULT '',
    over_ms {big}
);
CREATE INDEX fault_open ON fault (kind, over_ms);
CREATE TABLE replica (
    id {id},
    name TEXT NOT NULL UNIQUE,
    place TEXT NOT NULL,
    head_n {big} NOT NULL DEFAULT 0,
    head TEXT NOT NULL DEFAULT '',
    pulled_at {big},
    verified_at {big},
    cursor TEXT NOT NULL DEFAULT '',
    bad INTEGER NOT NULL DEFAULT 0,
    problem TEXT NOT NULL DEFAULT ''
);
CREATE TABLE failed (
    id {id},
    subject TEXT NOT NULL,
    at_ms {big} NOT NULL
);
CREATE INDEX failed_subject ON failed (subject, at_ms);
CREATE TABLE chore (
    name TEXT NOT NULL PRIMARY KEY,
    holder TEXT NOT NULL DEFAULT '',
    held_until {big} NOT NULL DEFAULT 0,
    done_at {big} NOT NULL DEFAULT 0
);
