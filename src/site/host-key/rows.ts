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

/**
 * @param file the name of the database, for errors
 * @returns a function that throws `NetimageError` `bad-state`, which does not show the key
 */
export function hostKeyReader(
  database: DatabaseSync,
  file: string,
): (machine: string) => HostKey | undefined {
  const keys = database.prepare('SELECT private_key FROM host_keys WHERE machine = ?')
  return (machine) => {
    const row = keys.get(machine)
    return row && parseHostKey(file, machine, String(row['private_key']))
  }
}
function parseHostKey(file: string, machine: string, privateKey: string): HostKey {
  const publicKey = publicKeyIn(privateKey)
  if (publicKey) return { privateKey, publicKey }
  const quoted = `'${machine.replaceAll("'", "''")}'`
  throw new NetimageError('bad-state', `the host key of ${machine} in ${file} is broken`, {
    details: { file },
    hint: `Put back a copy of the file from a backup. Or let the site forget this key: sqlite3 ${file} "DELETE FROM host_keys WHERE machine = ${quoted};". The machine keeps its key if it has booted with it.`,
  })
}
