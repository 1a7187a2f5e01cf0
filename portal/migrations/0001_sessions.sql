CREATE TABLE session (
    id TEXT PRIMARY KEY,
    ip TEXT NOT NULL,
    body TEXT NOT NULL,
    ended_at {big},
    cause INTEGER
);
CREATE INDEX session_ip ON session (ip);
CREATE TABLE outbox (
    id {id},
    session_id TEXT NOT NULL,
    status TEXT NOT NULL,
    record TEXT NOT NULL
);
CREATE INDEX outbox_session ON outbox (session_id, id);
