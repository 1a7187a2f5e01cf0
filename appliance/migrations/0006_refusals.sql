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
