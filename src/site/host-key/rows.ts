/** The host keys that a site made for its machines. */
import type { DatabaseSync } from 'node:sqlite'

import { NetimageError } from '../../errors.ts'
import { publicKeyIn, type HostKey } from './open-ssh.ts'

export const hostKeySchema = `
  CREATE TABLE IF NOT EXISTS host_keys (
    machine TEXT PRIMARY KEY,
    private_key TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
`

/** By machine, the texts of the rows. @param machine default: all machines */
export function readHostKeys(database: DatabaseSync, machine?: string): Map<string, string> {
  const isThere = database
    .prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'host_keys'")
    .get()
  // An earlier version made the database, and nothing has written to it since.
  if (!isThere) return new Map()
  const rows = database
    .prepare('SELECT machine, private_key FROM host_keys WHERE ?1 IS NULL OR machine = ?1')
    .all(machine ?? null)
  return new Map(rows.map((row) => [String(row['machine']), String(row['private_key'])]))
}

/** @param file the database @throws `NetimageError` `bad-state`, which does not show the key */
export function parseHostKey(
  file: string,
  machine: string,
  privateKey: string | undefined,
): HostKey | undefined {
  if (privateKey === undefined) return undefined
  const publicKey = publicKeyIn(privateKey)
  if (publicKey) return { privateKey, publicKey }
  const quoted = `'${machine.replaceAll("'", "''")}'`
  throw new NetimageError('bad-state', `the host key of ${machine} in ${file} is broken`, {
    details: { file },
    hint: `Put back a copy of the file from a backup. Or let the site forget this key: sqlite3 ${file} "DELETE FROM host_keys WHERE machine = ${quoted};". The machine keeps its key if it has booted with it.`,
  })
}
