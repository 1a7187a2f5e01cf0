ALTER TABLE plan ADD COLUMN burst TEXT NOT NULL DEFAULT '';
ALTER TABLE plan ADD COLUMN idle_timeout_s INTEGER;
ALTER TABLE plan ADD COLUMN slow_down_bps {big} NOT NULL DEFAULT 0;
ALTER TABLE plan ADD COLUMN slow_up_bps {big} NOT NULL DEFAULT 0;
ALTER TABLE plan ADD COLUMN devices INTEGER NOT NULL DEFAULT 0;
ALTER TABLE plan ADD COLUMN router_pool TEXT NOT NULL DEFAULT '';
ALTER TABLE plan ADD COLUMN filter_id TEXT NOT NULL DEFAULT '';
ALTER TABLE plan ADD COLUMN vlan INTEGER;
ALTER TABLE plan ADD COLUMN attributes TEXT NOT NULL DEFAULT '';
ALTER TABLE plan ADD COLUMN changed_at {big} NOT NULL DEFAULT 0;
CREATE TABLE voucher_batch (
    id {id},
    name TEXT NOT NULL UNIQUE,
    plan_id INTEGER NOT NULL REFERENCES plan (id),
    price_minor {big} NOT NULL DEFAULT 0,
    currency TEXT NOT NULL DEFAULT '',
    unused_until {big},
    created_at {big} NOT NULL
);
ALTER TABLE account ADD COLUMN overrides TEXT NOT NULL DEFAULT '';
ALTER TABLE account ADD COLUMN batch_id INTEGER REFERENCES voucher_batch (id);
ALTER TABLE account ADD COLUMN changed_at {big} NOT NULL DEFAULT 0;
CREATE INDEX account_batch ON account (batch_id) WHERE batch_id IS NOT NULL;
CREATE INDEX account_changed ON account (changed_at);
CREATE TABLE device (
    mac TEXT NOT NULL PRIMARY KEY,
    account_id INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    added_at {big} NOT NULL,
    used_at {big} NOT NULL
){clustered};
CREATE INDEX device_account ON device (account_id, used_at);
CREATE TABLE login_slot (
    account_id INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    mac TEXT NOT NULL,
    held_until {big} NOT NULL,
    PRIMARY KEY (account_id, mac)
){clustered};
ALTER TABLE session ADD COLUMN raw_input_octets {big} NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN raw_output_octets {big} NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN granted_rate TEXT;
ALTER TABLE session ADD COLUMN granted_until {big};
ALTER TABLE session ADD COLUMN granted_octets {big};
ALTER TABLE session ADD COLUMN check_at {big} NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN watch_octets {big};
UPDATE session SET raw_input_octets = input_octets, raw_output_octets = output_octets;
CREATE INDEX session_check ON session (check_at) WHERE ended_at IS NULL;
CREATE TABLE live_change (
    id {id},
    session_id INTEGER NOT NULL REFERENCES session (id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('coa', 'disconnect')),
    reason TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'acknowledged', 'done', 'refused')),
    rate TEXT,
    until {big},
    octets {big},
    tries INTEGER NOT NULL DEFAULT 0,
    created_at {big} NOT NULL,
    next_try_at {big} NOT NULL,
    acknowledged_at {big},
    ended_at {big},
    note TEXT NOT NULL DEFAULT ''
);
CREATE INDEX live_change_open ON live_change (next_try_at) WHERE ended_at IS NULL;
CREATE INDEX live_change_session ON live_change (session_id);
CREATE TABLE job_lease (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    held_until {big} NOT NULL
);
CREATE TABLE nas_new (
    id {id},
    name TEXT NOT NULL UNIQUE,
    address TEXT NOT NULL UNIQUE,
    secret {bytes} NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('gateway', 'mikrotik', 'chilli', 'other')),
    require_message_authenticator {flag} NOT NULL,
    coa_port INTEGER NOT NULL,
    coa TEXT NOT NULL DEFAULT 'coa' CHECK (coa IN ('coa', 'disconnect', 'none')),
    radsec {flag} NOT NULL,
    seen_at {big},
    tunnel_key TEXT,
    tunnel_address TEXT UNIQUE
);
INSERT INTO nas_new (id, name, address, secret, kind, require_message_authenticator, coa_port, radsec)
    SELECT id, name, address, secret, kind, require_message_authenticator, coa_port, {false} FROM nas;
DROP TABLE nas;
ALTER TABLE nas_new RENAME TO nas;
CREATE TABLE usage_new (
    account_id INTEGER NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    day INTEGER NOT NULL,
    input_octets {big} NOT NULL DEFAULT 0,
    output_octets {big} NOT NULL DEFAULT 0,
    PRIMARY KEY (account_id, day)
){clustered};
INSERT INTO usage_new SELECT account_id, day, input_octets, output_octets FROM account_usage;
DROP TABLE account_usage;
ALTER TABLE usage_new RENAME TO account_usage;
