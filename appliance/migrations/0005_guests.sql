CREATE TABLE registration (
    id {id},
    kind TEXT NOT NULL CHECK (kind IN ('free', 'email', 'operator')),
    state TEXT NOT NULL CHECK (state IN ('unconfirmed', 'waiting', 'accepted', 'refused')),
    mac TEXT NOT NULL,
    name TEXT NOT NULL DEFAULT '',
    contact TEXT NOT NULL DEFAULT '',
    language TEXT NOT NULL DEFAULT '',
    account_id INTEGER REFERENCES account (id) ON DELETE CASCADE,
    token TEXT UNIQUE,
    token_until {big},
    mails INTEGER NOT NULL DEFAULT 0,
    created_at {big} NOT NULL,
    decided_at {big},
    decided_by TEXT NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX registration_free ON registration (mac) WHERE kind = 'free';
CREATE UNIQUE INDEX registration_own ON registration (mac) WHERE kind <> 'free';
CREATE INDEX registration_account ON registration (account_id);
CREATE INDEX registration_contact ON registration (contact) WHERE contact <> '';
CREATE INDEX registration_open ON registration (created_at) WHERE state IN ('unconfirmed', 'waiting', 'refused');
CREATE TABLE mail (
    id {id},
    recipient TEXT NOT NULL,
    subject TEXT NOT NULL,
    body {bytes} NOT NULL,
    state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'failed')),
    tries INTEGER NOT NULL DEFAULT 0,
    created_at {big} NOT NULL,
    next_try_at {big} NOT NULL,
    error TEXT NOT NULL DEFAULT ''
);
CREATE INDEX mail_due ON mail (next_try_at) WHERE state = 'waiting';
