CREATE TABLE admin_user (
    id {id},
    name TEXT NOT NULL UNIQUE,
    password TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('reader', 'operator', 'owner')),
    enabled {flag} NOT NULL,
    created_at {big} NOT NULL
);
CREATE TABLE admin_session (
    token TEXT NOT NULL PRIMARY KEY,
    user_id INTEGER REFERENCES admin_user (id) ON DELETE CASCADE,
    form_token TEXT NOT NULL,
    address TEXT NOT NULL,
    agent TEXT NOT NULL,
    created_at {big} NOT NULL,
    used_at {big} NOT NULL
){clustered};
CREATE TABLE api_token (
    id {id},
    name TEXT NOT NULL UNIQUE,
    token TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL CHECK (role IN ('reader', 'operator', 'owner')),
    created_at {big} NOT NULL,
    used_at {big}
);
CREATE TABLE audit (
    id {id},
    at {big} NOT NULL,
    who TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    changes TEXT NOT NULL
);
CREATE INDEX audit_subject ON audit (subject);
