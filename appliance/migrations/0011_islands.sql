CREATE TABLE island_position (
    site TEXT NOT NULL,
    queue TEXT NOT NULL,
    delivered {big} NOT NULL,
    token TEXT NOT NULL DEFAULT '',
    at {big} NOT NULL,
    PRIMARY KEY (site, queue)
){clustered};
CREATE TABLE island_login (
    account_id INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    site TEXT NOT NULL,
    at {big} NOT NULL,
    PRIMARY KEY (account_id, site)
){clustered};
CREATE TABLE island_conflict (
    id {id},
    kind TEXT NOT NULL CHECK (kind IN ('voucher', 'quota', 'simultaneous', 'address', 'account', 'entry')),
    site TEXT NOT NULL,
    subject TEXT NOT NULL,
    account_id INTEGER REFERENCES account (id) ON DELETE SET NULL,
    account TEXT NOT NULL,
    at {big} NOT NULL,
    found_at {big} NOT NULL,
    detail TEXT NOT NULL,
    dismissed_at {big},
    dismissed_by TEXT NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX island_conflict_subject ON island_conflict (kind, subject);
CREATE INDEX island_conflict_open ON island_conflict (found_at) WHERE dismissed_at IS NULL;
CREATE TABLE offline_key (
    site TEXT PRIMARY KEY,
    secret {bytes} NOT NULL,
    created_at {big} NOT NULL
);
