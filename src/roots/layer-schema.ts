/** The tables of the database of a layer: see database.ts. */
import { firstOfStore, firstOwn } from './numbers.ts'

export const schema = `
  CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS nodes (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    mode INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    gid INTEGER NOT NULL,
    links INTEGER NOT NULL,
    major INTEGER NOT NULL,
    minor INTEGER NOT NULL,
    parent INTEGER NOT NULL,
    target BLOB,
    own_data INTEGER NOT NULL,
    accessed_s INTEGER NOT NULL, accessed_ns INTEGER NOT NULL,
    modified_s INTEGER NOT NULL, modified_ns INTEGER NOT NULL,
    changed_s INTEGER NOT NULL, changed_ns INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE IF NOT EXISTS entries (
    directory INTEGER NOT NULL,
    name BLOB NOT NULL,
    node INTEGER,
    cookie INTEGER NOT NULL,
    PRIMARY KEY (directory, name)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS entries_by_cookie ON entries (directory, cookie);
  CREATE TABLE IF NOT EXISTS replies (
    number INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    reply BLOB NOT NULL
  ) STRICT;
  CREATE TABLE IF NOT EXISTS hidden (
    name BLOB PRIMARY KEY,
    node INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS files (
    number INTEGER PRIMARY KEY,
    path BLOB NOT NULL UNIQUE
  ) STRICT;
  CREATE TABLE IF NOT EXISTS paths (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    nar_hash TEXT NOT NULL,
    structure TEXT,
    UNIQUE (name, nar_hash)
  ) STRICT;
  CREATE TABLE IF NOT EXISTS binding (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS bound (
    path BLOB PRIMARY KEY,
    number INTEGER NOT NULL,
    kind TEXT NOT NULL,
    mode INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    gid INTEGER NOT NULL,
    seconds INTEGER NOT NULL,
    nanoseconds INTEGER NOT NULL,
    target BLOB,
    content TEXT
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS entries_of_store ON entries (node) WHERE node >= ${firstOfStore};
  CREATE INDEX IF NOT EXISTS entries_of_images ON entries (node) WHERE node < ${firstOwn};
`
