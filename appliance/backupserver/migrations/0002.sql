-- Incremental backups: an image is based on another one, and knows what it did not save.

ALTER TABLE image ADD COLUMN level INTEGER NOT NULL DEFAULT 0;
ALTER TABLE image ADD COLUMN base TEXT;      -- uuid of the image it is based on; unset: it holds everything

-- Names that a directory in the image has and that are not saved there, because they did not change.
CREATE TABLE listed (
    image   INTEGER NOT NULL REFERENCES image (id) ON DELETE CASCADE,
    parent  BLOB NOT NULL,
    name    BLOB NOT NULL,
    PRIMARY KEY (image, parent, name)
) WITHOUT ROWID;

-- Directories that were elsewhere in the base; both paths from the backup root.
CREATE TABLE moved (
    image   INTEGER NOT NULL REFERENCES image (id) ON DELETE CASCADE,
    path    BLOB NOT NULL,
    origin  BLOB NOT NULL,
    PRIMARY KEY (image, path)
) WITHOUT ROWID;
