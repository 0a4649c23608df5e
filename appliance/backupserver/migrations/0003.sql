-- A cartridge that failed: what was the matter, and when.  It takes no more; what is on it stays known.

ALTER TABLE medium ADD COLUMN fault TEXT NOT NULL DEFAULT '';
