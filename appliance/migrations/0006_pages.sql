CREATE TABLE refusal (
    id {id},
    at {big} NOT NULL,
    name TEXT NOT NULL,
    account TEXT NOT NULL,
    nas TEXT NOT NULL,
    mac TEXT NOT NULL,
    reason TEXT NOT NULL,
    times {big} NOT NULL
);
CREATE INDEX refusal_at ON refusal (at);
CREATE INDEX refusal_account ON refusal (account) WHERE account <> '';
CREATE TABLE traffic (
    hour {big} NOT NULL PRIMARY KEY,
    input_octets {big} NOT NULL,
    output_octets {big} NOT NULL
){clustered};
CREATE INDEX account_own ON account (name) WHERE batch_id IS NULL;
CREATE INDEX account_plan_name ON account (plan_id, name);
CREATE INDEX account_until ON account (valid_until);
CREATE INDEX account_voucher ON account (batch_id, enabled, first_login_at, valid_until) WHERE batch_id IS NOT NULL;
CREATE INDEX account_voucher_name ON account (name) WHERE batch_id IS NOT NULL;
