/**
 * What the file of a site declares of machines, as it was applied last: all their hardware addresses, and what
 * DHCP tells them. The server reads it, so that it knows a machine by each of its network cards.
 */
import type { DatabaseSync } from 'node:sqlite'
import { isIPv4 } from 'node:net'
import * as v from 'valibot'

import { parseMac } from '../mac.ts'
import { isMachineName } from './machine-name.ts'
import { BrokenRow, parse } from './rows.ts'

const mac = v.pipe(
  v.string(),
  v.check((text) => parseMac(text) === text),
)

export const declarationSchema = v.object({
  /** All hardware addresses of the machine: lower case with colons, the first of the file first. */
  macs: v.array(mac),
  /** As `serial-number.ts` has them. */
  serials: v.array(v.string()),
  hostName: v.exactOptional(v.pipe(v.string(), v.check(isMachineName))),
  /** An IPv4 address. */
  address: v.exactOptional(v.pipe(v.string(), v.check(isIPv4))),
})

export type Declaration = v.InferOutput<typeof declarationSchema>

/** By the key by which the site knows a machine. */
export type Declarations = ReadonlyMap<string, Declaration>

export const declarationsSchema = `
  CREATE TABLE IF NOT EXISTS declarations (
    machine TEXT PRIMARY KEY,
    declaration TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
`

/** `host name pi1, address 10.0.0.11, serial number a1b2c3d4` */
export function saysDeclaration(declared: Declaration | undefined): string {
  if (!declared) return 'no more than its hardware address'
  const { macs, serials, hostName, address } = declared
  return [
    ...(hostName === undefined ? [] : [`host name ${hostName}`]),
    ...(address === undefined ? [] : [`address ${address}`]),
    ...(serials.length > 0 ? [`serial number ${serials.join(' or ')}`] : []),
    ...(macs.length > 1 ? [`hardware addresses ${macs.join(', ')}`] : []),
  ].join(', ')
}

/**
 * @param file the database, for errors
 * @param onBroken is told about machines with broken rows, which are left out: their other network cards must not
 *   be taken for machines of their own
 */
export function declarationsIn(
  database: DatabaseSync,
  file: string,
  onBroken: (error: BrokenRow) => void,
): Declarations {
  const isThere = database
    .prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'declarations'")
    .get()
  // An earlier version made the database, and nothing has written to it since.
  if (!isThere) return new Map()
  const rows = database.prepare('SELECT machine, declaration FROM declarations').all()
  return new Map(
    rows.flatMap(({ machine, declaration }) => {
      const name = String(machine)
      try {
        return [[name, parse(declarationSchema, declaration)] as const]
      } catch (error) {
        onBroken(new BrokenRow(file, name, error, hintFor(file, name)))
        return []
      }
    }),
  )
}

/** To be told of broken rows if nothing can be done without them. */
export function refuseBroken(error: BrokenRow): never {
  throw error
}

function hintFor(file: string, machine: string): string {
  const sql = `DELETE FROM declarations WHERE machine = '${machine.replaceAll("'", "''")}';`
  return `The row says which network cards, host name and address this machine has. Put back a copy of the file from a backup. Or switch the machine off, remove the row: sqlite3 ${file} "${sql}", and write it again with netimage site apply before you switch the machine on.`
}

/** @returns a function that replaces all declarations */
export function declarationWriter(database: DatabaseSync): (all: Declarations) => void {
  const clear = database.prepare('DELETE FROM declarations')
  const add = database.prepare('INSERT INTO declarations VALUES (?, ?)')
  return (all) => {
    clear.run()
    for (const [machine, declaration] of all) add.run(machine, JSON.stringify(declaration))
  }
}
