-- The first catalogue.  Times are UTC, seconds since 1970.  Paths and environment values are bytes.
-- 64-bit numbers of NDMP are unsigned; here they are the same 64 bits, signed.

CREATE TABLE catalogue (
    uuid     TEXT NOT NULL,                  -- in every label and header: whose cartridge is this?
    created  REAL NOT NULL
);

CREATE TABLE job (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    status    TEXT NOT NULL CHECK (status IN
              ('running', 'complete', 'problems', 'incomplete', 'failed', 'aborted')),
    paths     BLOB NOT NULL,                 -- global paths, each ended by NUL
    entry     TEXT NOT NULL,
    level     INTEGER NOT NULL,
    started   REAL NOT NULL,
    ended     REAL,
    files     INTEGER NOT NULL DEFAULT 0,
    bytes     INTEGER NOT NULL DEFAULT 0,    -- of the images
    problems  INTEGER NOT NULL DEFAULT 0,
    reason    TEXT NOT NULL DEFAULT '',      -- why it failed
    process   TEXT NOT NULL                  -- who runs it: see process.py
);
CREATE INDEX job_running ON job (status) WHERE status = 'running';

CREATE TABLE problem (
    id        INTEGER PRIMARY KEY,
    job       INTEGER NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    moment    REAL NOT NULL,
    severity  TEXT NOT NULL CHECK (severity IN ('error', 'warning', 'note')),
    line      BLOB NOT NULL
);
CREATE INDEX problem_job ON problem (job);

-- One image for each path of a job: what one DATA_START_BACKUP wrote.
CREATE TABLE image (
    id           INTEGER PRIMARY KEY,
    job          INTEGER NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    number       INTEGER NOT NULL,
    uuid         TEXT NOT NULL UNIQUE,
    root         BLOB NOT NULL,
    record_size  INTEGER NOT NULL,
    length       INTEGER,                    -- bytes, without padding; unknown until it ended
    UNIQUE (job, number)
);

CREATE TABLE environment (
    image     INTEGER NOT NULL REFERENCES image (id) ON DELETE CASCADE,
    position  INTEGER NOT NULL,
    name      BLOB NOT NULL,
    value     BLOB NOT NULL,
    PRIMARY KEY (image, position)
) WITHOUT ROWID;

CREATE TABLE medium (
    barcode   TEXT PRIMARY KEY,
    uuid      TEXT NOT NULL UNIQUE,          -- of its label
    pool      TEXT NOT NULL,
    state     TEXT NOT NULL CHECK (state IN ('appendable', 'full')),
    last_file INTEGER NOT NULL,              -- number of the last tape file that ends with a mark
    labelled  REAL NOT NULL,
    expires   REAL                           -- unset: never
) WITHOUT ROWID;

CREATE TABLE segment (
    image     INTEGER NOT NULL REFERENCES image (id) ON DELETE CASCADE,
    number    INTEGER NOT NULL,
    barcode   TEXT NOT NULL REFERENCES medium (barcode),
    file      INTEGER NOT NULL,              -- tape file of the data; its header is the file before
    start     INTEGER NOT NULL,              -- offset in the image
    length    INTEGER,                       -- unknown until its file mark is written
    PRIMARY KEY (image, number)
) WITHOUT ROWID;
CREATE INDEX segment_barcode ON segment (barcode);

CREATE TABLE file (
    image   INTEGER NOT NULL REFERENCES image (id) ON DELETE CASCADE,
    parent  BLOB NOT NULL,                   -- path from the backup root; '' for the root itself
    name    BLOB NOT NULL,
    node    INTEGER NOT NULL,
    offset  INTEGER NOT NULL,                -- fh_info
    type    INTEGER NOT NULL,
    mode    INTEGER NOT NULL,
    size    INTEGER NOT NULL,
    mtime   INTEGER NOT NULL,
    owner   INTEGER NOT NULL,
    grp     INTEGER NOT NULL,
    PRIMARY KEY (image, parent, name)
) WITHOUT ROWID;

CREATE TABLE lease (
    resource  TEXT PRIMARY KEY,              -- drive:SERIAL or cartridge:BARCODE
    holder    TEXT NOT NULL,                 -- for people: "job 12"
    process   TEXT NOT NULL,
    since     REAL NOT NULL
) WITHOUT ROWID;
