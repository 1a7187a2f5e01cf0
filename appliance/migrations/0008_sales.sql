ALTER TABLE plan ADD COLUMN price_minor {big} NOT NULL DEFAULT 0;
ALTER TABLE plan ADD COLUMN currency TEXT NOT NULL DEFAULT '';
CREATE TABLE charge (
    id {id},
    kind TEXT NOT NULL CHECK (kind IN ('activation', 'renewal', 'voucher')),
    account_id INTEGER REFERENCES account (id) ON DELETE SET NULL,
    account TEXT NOT NULL DEFAULT '',
    batch_id INTEGER REFERENCES voucher_batch (id) ON DELETE SET NULL,
    batch TEXT NOT NULL DEFAULT '',
    plan TEXT NOT NULL DEFAULT '',
    amount_minor {big} NOT NULL CHECK (amount_minor > 0),
    currency TEXT NOT NULL,
    at {big} NOT NULL,
    source TEXT NOT NULL UNIQUE,
    recorded_at {big} NOT NULL,
    cancelled_at {big}
);
CREATE INDEX charge_account ON charge (account_id, at);
CREATE INDEX charge_gone ON charge (account) WHERE account_id IS NULL AND batch_id IS NULL;
CREATE INDEX charge_batch ON charge (batch_id, at);
CREATE INDEX charge_at ON charge (at);
CREATE TABLE payment (
    id {id},
    charge_id INTEGER NOT NULL REFERENCES charge (id),
    amount_minor {big} NOT NULL CHECK (amount_minor <> 0),
    at {big} NOT NULL,
    method TEXT NOT NULL DEFAULT '',
    reference TEXT NOT NULL DEFAULT '',
    refund_of INTEGER REFERENCES payment (id),
    source TEXT NOT NULL UNIQUE,
    recorded_at {big} NOT NULL
);
CREATE INDEX payment_charge ON payment (charge_id);
CREATE INDEX payment_at ON payment (at);
CREATE INDEX payment_refund ON payment (refund_of) WHERE refund_of IS NOT NULL;
