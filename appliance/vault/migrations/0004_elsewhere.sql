-- Copies between appliances: to whom this one offers what it keeps, and whose vaults it keeps a copy of.
CREATE TABLE offer (
    id {id},
    name TEXT NOT NULL UNIQUE,
    token TEXT NOT NULL UNIQUE,
    kept TEXT NOT NULL DEFAULT '',
    networks TEXT NOT NULL DEFAULT '',
    created_at {big} NOT NULL,
    used_at {big},
    used_from TEXT NOT NULL DEFAULT '',
    head_n {big} NOT NULL DEFAULT 0,
    pulled_at {big},
    verified_at {big},
    bad INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE source (
    id {id},
    name TEXT NOT NULL UNIQUE,
    url TEXT NOT NULL,
    key TEXT NOT NULL,
    token TEXT NOT NULL,
    rate_bps {big} NOT NULL DEFAULT 0,
    quota_bytes {big},
    keep_days INTEGER,
    added_at {big} NOT NULL,
    head_n {big} NOT NULL DEFAULT 0,
    head TEXT NOT NULL DEFAULT '',
    head_bytes {big} NOT NULL DEFAULT 0,
    heard_at {big},
    pulled_at {big},
    verified_at {big},
    cursor TEXT NOT NULL DEFAULT '',
    bytes {big} NOT NULL DEFAULT 0,
    bad INTEGER NOT NULL DEFAULT 0,
    missing INTEGER NOT NULL DEFAULT 0,
    broken TEXT NOT NULL DEFAULT '',
    held TEXT NOT NULL DEFAULT '',
    problem TEXT NOT NULL DEFAULT ''
);
CREATE TABLE seen (
    id {id},
    source_id INTEGER NOT NULL REFERENCES source (id) ON DELETE CASCADE,
    n {big} NOT NULL,
    age_ms {big} NOT NULL
);
CREATE UNIQUE INDEX seen_age ON seen (source_id, age_ms);
