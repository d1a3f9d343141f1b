-- What is known of each job. Times ending in _at are wall milliseconds, the others queue milliseconds.
CREATE TABLE jobs (
    number            INTEGER PRIMARY KEY,
    id                TEXT    NOT NULL UNIQUE,
    principal         TEXT    NOT NULL,
    priority          INTEGER NOT NULL,
    idempotency_key   TEXT,
    body_hash         BLOB,
    prompt_characters INTEGER NOT NULL,
    enqueued          INTEGER NOT NULL,
    status            TEXT    NOT NULL,
    not_before        INTEGER NOT NULL DEFAULT 0,
    attempt           INTEGER NOT NULL DEFAULT 0,
    attempts_used     INTEGER NOT NULL DEFAULT 0,
    cancel_requested  INTEGER NOT NULL DEFAULT 0,
    stage             TEXT,
    step              INTEGER,
    steps             INTEGER,
    sequence          INTEGER NOT NULL DEFAULT 0,
    failure_code      TEXT,
    failure_message   TEXT,
    created_at        INTEGER NOT NULL,
    started_at        INTEGER,
    finished_at       INTEGER,
    output_path       TEXT,
    output_bytes      INTEGER,
    output_used       TEXT
) STRICT;
CREATE INDEX jobs_of_principal ON jobs (principal, number);
CREATE UNIQUE INDEX jobs_by_key ON jobs (principal, idempotency_key) WHERE idempotency_key IS NOT NULL;

-- Apart from the jobs, whose rows are written again with every step.
CREATE TABLE requests (
    number     INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
    body       TEXT NOT NULL,
    attachment BLOB
) STRICT;

CREATE TABLE events (
    number   INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
    sequence INTEGER NOT NULL,
    kind     TEXT    NOT NULL,
    status   TEXT    NOT NULL,
    progress INTEGER NOT NULL,
    stage    TEXT,
    step     INTEGER,
    steps    INTEGER,
    attempt  INTEGER NOT NULL,
    error    TEXT,
    PRIMARY KEY (number, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE warnings (
    place  INTEGER PRIMARY KEY,
    number INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
    text   TEXT    NOT NULL,
    UNIQUE (number, text)
) STRICT;

-- One row: aggregates as JSON, and the highest job number ever given.
CREATE TABLE totals (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    totals      TEXT    NOT NULL,
    last_number INTEGER NOT NULL
) STRICT;
