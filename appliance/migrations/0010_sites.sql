CREATE TABLE site (
    key TEXT NOT NULL PRIMARY KEY,
    title TEXT NOT NULL DEFAULT '',
    created_at {big} NOT NULL,
    changed_at {big} NOT NULL,
    fingerprint TEXT NOT NULL DEFAULT '',
    machine TEXT NOT NULL DEFAULT '',
    joined_at {big},
    join_token TEXT,
    join_until {big},
    reported_at {big},
    ahead_ms {big},
    version TEXT NOT NULL DEFAULT '',
    kernel TEXT NOT NULL DEFAULT '',
    booted_at {big},
    disks TEXT NOT NULL DEFAULT '[]',
    data_disk TEXT NOT NULL DEFAULT '',
    modules TEXT NOT NULL DEFAULT '',
    problems TEXT NOT NULL DEFAULT '[]',
    snapshot_at {big},
    settings TEXT NOT NULL DEFAULT '{}'
){clustered};
CREATE TABLE site_setting (
    site TEXT NOT NULL REFERENCES site (key) ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    changed_at {big} NOT NULL,
    changed_by TEXT NOT NULL,
    wish TEXT NOT NULL DEFAULT '',
    state TEXT NOT NULL DEFAULT 'waiting',
    answer TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (site, key)
){clustered};
ALTER TABLE nas ADD COLUMN site TEXT REFERENCES site (key);
ALTER TABLE admin_user ADD COLUMN sites TEXT NOT NULL DEFAULT '';
ALTER TABLE api_token ADD COLUMN sites TEXT NOT NULL DEFAULT '';
