CREATE INDEX session_account ON session (account_id);
CREATE INDEX session_lost ON session (nas, updated_at) WHERE terminate_cause = 'Lost-Session';
