INSERT INTO pool (id, name) VALUES (1, 'public');
INSERT INTO plan (id, name, rate_down_bps, rate_up_bps, windows, quota_bytes, quota_period, simultaneous, pool_id)
    VALUES (1, 'home', 20000000, 5000000, 'Mo-Fr 08:00-20:00', 10000000000, 'month', 2, 1);
INSERT INTO account (id, name, password, plan_id, enabled, created_at) VALUES (1, 'bob', '', 1, true, 1700000000);
INSERT INTO pool_address (ip, pool_id, account_id, mac, held_until) VALUES ('198.51.100.16', 1, 1, 'aa:bb:cc:00:11:22', 1700003600);
INSERT INTO nas (id, name, address, secret, kind, require_message_authenticator, coa_port, radsec, netflow, netflow_from)
    VALUES (1, 'attic', '192.0.2.7', '', 'mikrotik', true, 1700, false, true, '2001:db8::7 198.51.100.0/30');
INSERT INTO session (id, unique_id, account_id, account, nas, acct_session_id, mac, started_at, updated_at)
    VALUES (1, 'abc', 1, 'bob', 'attic', '1', 'aa:bb:cc:00:11:22', 1700000000, 1700000300);
INSERT INTO account_usage (account_id, day, input_octets, output_octets) VALUES (1, 20231114, 5000000000, 9000000000);
INSERT INTO admin_user (id, name, password, role, enabled, created_at) VALUES (1, 'jana', '$argon2id$', 'owner', true, 1700000000);
INSERT INTO audit (id, at, who, action, subject, changes) VALUES (1, 1700000000, 'jana', 'changed', 'plan home', '{}');
INSERT INTO registration (id, kind, state, mac, name, contact, account_id, token, token_until, mails, created_at)
    VALUES (1, 'email', 'unconfirmed', 'aa:bb:cc:00:11:22', 'Bob', 'bob@example.net', 1, 'ab', 1700086400, 1, 1700000000);
INSERT INTO registration (id, kind, state, mac, account_id, created_at) VALUES (2, 'free', 'accepted', 'aa:bb:cc:00:11:22', 1, 1700000000);
INSERT INTO mail (id, recipient, subject, body, created_at, next_try_at) VALUES (1, 'bob@example.net', 'Hi', '', 1700000000, 1700000000);
INSERT INTO refusal (id, at, name, account, nas, mac, reason, times)
    VALUES (1, 1700000000, 'bob', 'bob', 'attic', 'aa:bb:cc:00:11:22', 'password', 3);
INSERT INTO traffic (hour, input_octets, output_octets) VALUES (472222, 5000000000, 9000000000);
UPDATE plan SET price_minor = 1990, currency = 'EUR';
INSERT INTO charge (id, kind, account_id, account, plan, amount_minor, currency, at, source, recorded_at)
    VALUES (1, 'activation', 1, 'bob', 'home', 1990, 'EUR', 1700000000, 'account:1:activation', 1700000000);
INSERT INTO payment (id, charge_id, amount_minor, at, method, reference, source, recorded_at)
    VALUES (1, 1, 1000, 1700000100, 'cash', 'R1', 'hand:1', 1700000100);
INSERT INTO payment (id, charge_id, amount_minor, at, method, refund_of, source, recorded_at)
    VALUES (2, 1, -1000, 1700000200, 'cash', 1, 'hand:2', 1700000200);
UPDATE mail SET attachment_name = 'a.pdf', attachment = '';
INSERT INTO site (key, title, created_at, changed_at, fingerprint, problems) VALUES ('north', 'North', 1700000000, 1700000000, 'ab', '[]');
INSERT INTO site_setting (site, key, value, changed_at, changed_by) VALUES ('north', 'site.name', '"North"', 1700000000, 'jana');
UPDATE nas SET site = 'north';
UPDATE admin_user SET sites = '{"north": "operator"}';
INSERT INTO island_position (site, queue, delivered, at) VALUES ('', 'abc', 7, 1700000000);
INSERT INTO island_login (account_id, site, at) VALUES (1, '', 1700000000);
INSERT INTO island_conflict (id, kind, site, subject, account_id, account, at, found_at, detail)
    VALUES (1, 'quota', '', '1 0', 1, 'bob', 1700000000, 1700000300, 'too much');
INSERT INTO offline_key (site, secret, created_at) VALUES ('', '', 1700000000);
