ALTER TABLE mail ADD COLUMN attachment_name TEXT NOT NULL DEFAULT '';
ALTER TABLE mail ADD COLUMN attachment {bytes};
