-- Which catalogue it is, so that a file of settings is known as its own or as another's, which came from a backup.
ALTER TABLE head ADD COLUMN catalogue TEXT NOT NULL DEFAULT '';
