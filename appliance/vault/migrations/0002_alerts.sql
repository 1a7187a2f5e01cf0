-- What somebody has to know of, and how they are told of it.
CREATE TABLE alert (
    id {id},
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    vault TEXT NOT NULL DEFAULT '',
    text TEXT NOT NULL,
    detail TEXT NOT NULL DEFAULT '',
    since_at {big} NOT NULL,
    over_at {big}
);
CREATE UNIQUE INDEX alert_open ON alert (kind, subject) WHERE over_at IS NULL;
CREATE INDEX alert_over ON alert (over_at);
CREATE TABLE notice (
    id {id},
    alert_id INTEGER NOT NULL REFERENCES alert (id) ON DELETE CASCADE,
    over {flag} NOT NULL,
    way TEXT NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    next_try_at {big} NOT NULL,
    error TEXT NOT NULL DEFAULT ''
);
CREATE INDEX notice_next ON notice (next_try_at);
