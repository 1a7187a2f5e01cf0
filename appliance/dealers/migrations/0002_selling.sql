CREATE TABLE sale (
    id {id},
    dealer_id INTEGER NOT NULL REFERENCES dealer (id),
    key TEXT NOT NULL,
    batch TEXT NOT NULL UNIQUE,
    batch_id {big},
    plan TEXT NOT NULL,
    count INTEGER NOT NULL CHECK (count > 0),
    price_minor {big} NOT NULL CHECK (price_minor > 0),
    amount_minor {big} NOT NULL,
    currency TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'sold', 'released')),
    at {big} NOT NULL,
    done_at {big},
    UNIQUE (dealer_id, key)
);
CREATE INDEX sale_open ON sale (at) WHERE state = 'open';
CREATE INDEX sale_dealer ON sale (dealer_id, at);
CREATE INDEX sale_batch ON sale (batch_id) WHERE batch_id IS NOT NULL;
CREATE TABLE recall (
    id {id},
    sale_id INTEGER NOT NULL REFERENCES sale (id),
    account_id {big} NOT NULL UNIQUE,
    code TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'asked' CHECK (state IN ('asked', 'done', 'refused')),
    at {big} NOT NULL,
    done_at {big}
);
CREATE INDEX recall_asked ON recall (at) WHERE state = 'asked';
CREATE INDEX recall_sale ON recall (sale_id);
CREATE TABLE failed (
    id {id},
    subject TEXT NOT NULL,
    at_ms {big} NOT NULL
);
CREATE INDEX failed_subject ON failed (subject, at_ms);
CREATE TABLE visit (
    dealer_id INTEGER NOT NULL PRIMARY KEY REFERENCES dealer (id),
    at {big} NOT NULL,
    address TEXT NOT NULL
);
CREATE INDEX posting_due ON posting (dealer_id, currency, due_at, kind, amount_minor);
CREATE INDEX posting_recorded ON posting (dealer_id, recorded_at, n);
