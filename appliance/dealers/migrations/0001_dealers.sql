-- What dealers earn and are paid; triggers refuse to change what is settled.
{postgresql}CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
{postgresql}RAISE EXCEPTION USING MESSAGE = TG_ARGV[0], ERRCODE = 'integrity_constraint_violation'; END $$;
CREATE TABLE dealer (
    id {id},
    name TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended', 'ended')),
    contact TEXT NOT NULL DEFAULT '',
    email TEXT NOT NULL DEFAULT '',
    phone TEXT NOT NULL DEFAULT '',
    street TEXT NOT NULL DEFAULT '',
    house TEXT NOT NULL DEFAULT '',
    city TEXT NOT NULL DEFAULT '',
    postcode TEXT NOT NULL DEFAULT '',
    country TEXT NOT NULL DEFAULT '',
    company_id TEXT NOT NULL DEFAULT '',
    vat_id TEXT NOT NULL DEFAULT '',
    tax TEXT NOT NULL DEFAULT 'non-payer' CHECK (tax IN ('payer', 'non-payer', 'foreign')),
    vat_rate TEXT NOT NULL DEFAULT '',
    iban TEXT NOT NULL DEFAULT '',
    bic TEXT NOT NULL DEFAULT '',
    currency TEXT NOT NULL DEFAULT 'EUR',
    contract TEXT NOT NULL DEFAULT '',
    contract_from {big},
    contract_until {big},
    self_billing_from {big},
    self_billing_until {big},
    login TEXT UNIQUE,
    password TEXT NOT NULL DEFAULT '',
    credit_limit_minor {big} NOT NULL DEFAULT 0,
    batch_limit {big} NOT NULL DEFAULT 0,
    day_limit_minor {big} NOT NULL DEFAULT 0,
    created_at {big} NOT NULL,
    changed_at {big} NOT NULL
);
CREATE TABLE attribution (
    id {id},
    dealer_id INTEGER NOT NULL REFERENCES dealer (id),
    kind TEXT NOT NULL CHECK (kind IN ('account', 'batch')),
    ref INTEGER NOT NULL,
    name TEXT NOT NULL,
    valid_from {big} NOT NULL,
    valid_to {big},
    taken_at {big}
);
CREATE INDEX attribution_ref ON attribution (kind, ref, valid_from);
CREATE INDEX attribution_name ON attribution (kind, name);
CREATE INDEX attribution_dealer ON attribution (dealer_id, kind, valid_from);
CREATE INDEX attribution_new ON attribution (id) WHERE taken_at IS NULL;
CREATE TABLE scheme (
    id {id},
    name TEXT NOT NULL UNIQUE,
    created_at {big} NOT NULL
);
CREATE TABLE scheme_version (
    id {id},
    scheme_id INTEGER NOT NULL REFERENCES scheme (id),
    number INTEGER NOT NULL,
    valid_from {big} NOT NULL,
    terms TEXT NOT NULL,
    created_at {big} NOT NULL,
    UNIQUE (scheme_id, number)
);
CREATE TRIGGER scheme_version_stays BEFORE UPDATE ON scheme_version FOR EACH ROW
    {refuse} 'a version of a scheme is never changed: make another one'{end};
CREATE TRIGGER scheme_version_is_kept BEFORE DELETE ON scheme_version FOR EACH ROW
    {refuse} 'a version of a scheme is never removed'{end};
CREATE TABLE dealer_scheme (
    id {id},
    dealer_id INTEGER NOT NULL REFERENCES dealer (id),
    scheme_id INTEGER NOT NULL REFERENCES scheme (id),
    valid_from {big} NOT NULL,
    valid_to {big},
    taken_at {big}
);
CREATE INDEX dealer_scheme_dealer ON dealer_scheme (dealer_id, valid_from);
CREATE INDEX dealer_scheme_new ON dealer_scheme (id) WHERE taken_at IS NULL;
CREATE TABLE posting (
    id {id},
    dealer_id INTEGER NOT NULL REFERENCES dealer (id),
    n INTEGER NOT NULL,
    kind TEXT NOT NULL,
    source_type TEXT NOT NULL,
    source_id TEXT NOT NULL,
    scheme_version INTEGER NOT NULL DEFAULT 0,
    currency TEXT NOT NULL,
    amount_minor {big} NOT NULL,
    at {big} NOT NULL,
    due_at {big} NOT NULL,
    charge TEXT NOT NULL DEFAULT '',
    base_minor {big} NOT NULL DEFAULT 0,
    volume_minor {big} NOT NULL DEFAULT 0,
    whole_minor {big} NOT NULL DEFAULT 0,
    rate TEXT NOT NULL DEFAULT '',
    note TEXT NOT NULL DEFAULT '',
    recorded_at {big} NOT NULL,
    hash TEXT NOT NULL,
    UNIQUE (source_type, source_id, scheme_version, dealer_id, kind),
    UNIQUE (dealer_id, n)
);
CREATE UNIQUE INDEX posting_payment ON posting (source_id) WHERE source_type = 'payment';
CREATE INDEX posting_at ON posting (dealer_id, currency, at, base_minor, kind, amount_minor);
CREATE INDEX posting_charge ON posting (charge) WHERE charge <> '';
CREATE TRIGGER posting_stays BEFORE UPDATE ON posting FOR EACH ROW
    {refuse} 'the ledger is never changed: post a correction'{end};
CREATE TRIGGER posting_is_kept BEFORE DELETE ON posting FOR EACH ROW
    {refuse} 'nothing is removed from the ledger: post a correction'{end};
CREATE TABLE entry (
    id {id},
    posting_id INTEGER NOT NULL REFERENCES posting (id),
    dealer_id INTEGER NOT NULL,
    currency TEXT NOT NULL,
    account TEXT NOT NULL,
    amount_minor {big} NOT NULL,
    balance_minor {big} NOT NULL
);
CREATE INDEX entry_posting ON entry (posting_id);
CREATE INDEX entry_balance ON entry (dealer_id, currency, account, id);
CREATE TRIGGER entry_stays BEFORE UPDATE ON entry FOR EACH ROW
    {refuse} 'the ledger is never changed: post a correction'{end};
CREATE TRIGGER entry_is_kept BEFORE DELETE ON entry FOR EACH ROW
    {refuse} 'nothing is removed from the ledger: post a correction'{end};
CREATE TABLE cursor (
    name TEXT NOT NULL PRIMARY KEY,
    value {big} NOT NULL
);
CREATE TABLE settlement (
    id {id},
    dealer_id INTEGER NOT NULL REFERENCES dealer (id),
    currency TEXT NOT NULL,
    period TEXT NOT NULL,
    since {big} NOT NULL,
    until {big} NOT NULL,
    amount_minor {big} NOT NULL,
    at {big} NOT NULL,
    who TEXT NOT NULL,
    UNIQUE (dealer_id, currency, period)
);
CREATE TRIGGER settlement_stays BEFORE UPDATE ON settlement FOR EACH ROW
    {refuse} 'a settlement is never changed: post a correction'{end};
CREATE TRIGGER settlement_is_kept BEFORE DELETE ON settlement FOR EACH ROW
    {refuse} 'a settlement is never removed'{end};
CREATE TABLE settlement_line (
    posting_id INTEGER NOT NULL PRIMARY KEY REFERENCES posting (id),
    settlement_id INTEGER NOT NULL REFERENCES settlement (id),
    amount_minor {big} NOT NULL
);
CREATE INDEX settlement_line_settlement ON settlement_line (settlement_id);
CREATE TRIGGER settlement_line_stays BEFORE UPDATE ON settlement_line FOR EACH ROW
    {refuse} 'a settlement is never changed: post a correction'{end};
CREATE TRIGGER settlement_line_is_kept BEFORE DELETE ON settlement_line FOR EACH ROW
    {refuse} 'nothing is removed from a settlement'{end};
CREATE TABLE invoice (
    id {id},
    dealer_id INTEGER NOT NULL REFERENCES dealer (id),
    settlement_id INTEGER REFERENCES settlement (id),
    kind TEXT NOT NULL DEFAULT 'invoice' CHECK (kind IN ('invoice', 'credit note')),
    corrects_id INTEGER UNIQUE REFERENCES invoice (id),
    series TEXT NOT NULL DEFAULT '',
    serial INTEGER,
    number TEXT,
    currency TEXT NOT NULL,
    period TEXT NOT NULL DEFAULT '',
    since {big},
    until {big},
    seller TEXT NOT NULL,
    buyer TEXT NOT NULL,
    vat_category TEXT NOT NULL DEFAULT '',
    vat_rate TEXT NOT NULL DEFAULT '',
    net_minor {big} NOT NULL,
    vat_minor {big} NOT NULL,
    total_minor {big} NOT NULL,
    note TEXT NOT NULL DEFAULT '',
    created_at {big} NOT NULL,
    issued_at {big},
    due_at {big},
    cancelled_at {big},
    reason TEXT NOT NULL DEFAULT '',
    mailed_at {big},
    UNIQUE (dealer_id, series, serial)
);
CREATE UNIQUE INDEX invoice_settlement ON invoice (settlement_id)
    WHERE settlement_id IS NOT NULL AND kind = 'invoice' AND cancelled_at IS NULL;
CREATE UNIQUE INDEX invoice_number ON invoice (number);
CREATE INDEX invoice_dealer ON invoice (dealer_id, issued_at);
CREATE INDEX invoice_issued ON invoice (issued_at);
CREATE TRIGGER invoice_stays BEFORE UPDATE OF dealer_id, settlement_id, kind, corrects_id, series, serial, number,
    currency, period, since, until, seller, buyer, vat_category, vat_rate, net_minor, vat_minor, total_minor, issued_at
    ON invoice FOR EACH ROW WHEN (OLD.number IS NOT NULL)
    {refuse} 'an issued invoice is never changed: cancel it by a credit note'{end};
CREATE TRIGGER invoice_is_kept BEFORE DELETE ON invoice FOR EACH ROW WHEN (OLD.number IS NOT NULL)
    {refuse} 'an issued invoice is never removed: cancel it by a credit note'{end};
CREATE TABLE invoice_line (
    id {id},
    invoice_id INTEGER NOT NULL REFERENCES invoice (id) ON DELETE CASCADE,
    n INTEGER NOT NULL,
    text TEXT NOT NULL,
    quantity INTEGER NOT NULL DEFAULT 1,
    price_minor {big} NOT NULL,
    net_minor {big} NOT NULL,
    UNIQUE (invoice_id, n)
);
CREATE TABLE invoice_counter (
    dealer_id INTEGER NOT NULL REFERENCES dealer (id),
    series TEXT NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (dealer_id, series)
);
CREATE TABLE payout (
    id {id},
    currency TEXT NOT NULL,
    message_id TEXT NOT NULL UNIQUE,
    execute_on TEXT NOT NULL,
    total_minor {big} NOT NULL,
    created_at {big} NOT NULL,
    who TEXT NOT NULL,
    closed_at {big}
);
CREATE TABLE payout_line (
    id {id},
    payout_id INTEGER NOT NULL REFERENCES payout (id),
    invoice_id INTEGER NOT NULL REFERENCES invoice (id),
    dealer_id INTEGER NOT NULL REFERENCES dealer (id),
    amount_minor {big} NOT NULL,
    end_to_end TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    iban TEXT NOT NULL,
    bic TEXT NOT NULL DEFAULT '',
    state TEXT NOT NULL DEFAULT 'sent' CHECK (state IN ('sent', 'paid', 'failed')),
    done_at {big}
);
CREATE INDEX payout_line_payout ON payout_line (payout_id);
CREATE INDEX payout_line_invoice ON payout_line (invoice_id);
CREATE INDEX payout_line_open ON payout_line (dealer_id) WHERE state = 'sent';
CREATE TABLE invoice_payment (
    id {id},
    invoice_id INTEGER NOT NULL REFERENCES invoice (id),
    payout_line_id INTEGER UNIQUE REFERENCES payout_line (id),
    amount_minor {big} NOT NULL,
    at {big} NOT NULL,
    reference TEXT NOT NULL DEFAULT '',
    source TEXT NOT NULL UNIQUE,
    recorded_at {big} NOT NULL,
    who TEXT NOT NULL DEFAULT ''
);
CREATE INDEX invoice_payment_invoice ON invoice_payment (invoice_id);
CREATE TRIGGER invoice_payment_stays BEFORE UPDATE ON invoice_payment FOR EACH ROW
    {refuse} 'a payment is never changed: record its reverse'{end};
CREATE TRIGGER invoice_payment_is_kept BEFORE DELETE ON invoice_payment FOR EACH ROW
    {refuse} 'a payment is never removed: record its reverse'{end};
{postgresql}CREATE TRIGGER posting_is_whole BEFORE TRUNCATE ON posting
{postgresql}    EXECUTE FUNCTION refuse('nothing is removed from the ledger: post a correction');
{postgresql}CREATE TRIGGER entry_is_whole BEFORE TRUNCATE ON entry
{postgresql}    EXECUTE FUNCTION refuse('nothing is removed from the ledger: post a correction');
{postgresql}CREATE TRIGGER scheme_version_is_whole BEFORE TRUNCATE ON scheme_version
{postgresql}    EXECUTE FUNCTION refuse('a version of a scheme is never removed');
{postgresql}CREATE TRIGGER settlement_is_whole BEFORE TRUNCATE ON settlement
{postgresql}    EXECUTE FUNCTION refuse('a settlement is never removed');
{postgresql}CREATE TRIGGER settlement_line_is_whole BEFORE TRUNCATE ON settlement_line
{postgresql}    EXECUTE FUNCTION refuse('nothing is removed from a settlement');
{postgresql}CREATE TRIGGER invoice_is_whole BEFORE TRUNCATE ON invoice
{postgresql}    EXECUTE FUNCTION refuse('an issued invoice is never removed: cancel it by a credit note');
{postgresql}CREATE TRIGGER invoice_payment_is_whole BEFORE TRUNCATE ON invoice_payment
{postgresql}    EXECUTE FUNCTION refuse('a payment is never removed: record its reverse');
