CREATE TABLE pool (
    id {id},
    name TEXT NOT NULL UNIQUE
);
CREATE TABLE plan (
    id {id},
    name TEXT NOT NULL UNIQUE,
    rate_down_bps {big} NOT NULL DEFAULT 0,
    rate_up_bps {big} NOT NULL DEFAULT 0,
    windows TEXT NOT NULL DEFAULT '',
    session_timeout_s INTEGER,
    validity_s {big},
    quota_bytes {big},
    quota_period TEXT NOT NULL DEFAULT 'total' CHECK (quota_period IN ('day', 'week', 'month', 'total')),
    simultaneous INTEGER,
    pool_id INTEGER REFERENCES pool (id)
);
CREATE TABLE account (
    id {id},
    name TEXT NOT NULL UNIQUE,
    password {bytes} NOT NULL,
    plan_id INTEGER NOT NULL REFERENCES plan (id),
    enabled {flag} NOT NULL,
    address TEXT UNIQUE,
    valid_until {big},
    first_login_at {big},
    created_at {big} NOT NULL
);
CREATE INDEX account_plan ON account (plan_id);
CREATE TABLE pool_address (
    ip TEXT PRIMARY KEY,
    pool_id INTEGER NOT NULL REFERENCES pool (id) ON DELETE CASCADE,
    account_id INTEGER REFERENCES account (id) ON DELETE SET NULL,
    mac TEXT,
    held_until {big} NOT NULL DEFAULT 0
);
CREATE INDEX pool_address_free ON pool_address (pool_id, held_until);
CREATE INDEX pool_address_account ON pool_address (account_id);
CREATE TABLE nas (
    id {id},
    name TEXT NOT NULL UNIQUE,
    address TEXT NOT NULL UNIQUE,
    secret {bytes} NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('gateway', 'mikrotik', 'other')),
    require_message_authenticator {flag} NOT NULL,
    coa_port INTEGER NOT NULL
);
CREATE TABLE session (
    id {id},
    unique_id TEXT NOT NULL UNIQUE,
    account_id INTEGER REFERENCES account (id) ON DELETE SET NULL,
    account TEXT NOT NULL,
    nas TEXT NOT NULL,
    acct_session_id TEXT NOT NULL,
    mac TEXT NOT NULL,
    framed_ip TEXT,
    host_ip TEXT,
    started_at {big} NOT NULL,
    updated_at {big} NOT NULL,
    ended_at {big},
    terminate_cause TEXT,
    session_s {big} NOT NULL DEFAULT 0,
    input_octets {big} NOT NULL DEFAULT 0,
    output_octets {big} NOT NULL DEFAULT 0
);
CREATE INDEX session_open ON session (account_id) WHERE ended_at IS NULL;
CREATE INDEX session_open_nas ON session (nas) WHERE ended_at IS NULL;
CREATE INDEX session_started ON session (started_at);
CREATE TABLE account_usage (
    account_id INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    day INTEGER NOT NULL,
    input_octets {big} NOT NULL DEFAULT 0,
    output_octets {big} NOT NULL DEFAULT 0,
    PRIMARY KEY (account_id, day)
);
