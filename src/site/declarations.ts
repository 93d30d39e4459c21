/**
 * What the file of a site declares of machines, as it was applied last: all their hardware addresses, and what
 * DHCP tells them. The server reads it, so that it knows a machine by each of its network cards.
 */
import type { DatabaseSync } from 'node:sqlite'
import { isIPv4 } from 'node:net'
import * as v from 'valibot'

import { parseMac } from '../mac.ts'
import { isMachineName } from './machine-name.ts'
import { parse } from './rows.ts'

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

/** A row that cannot be read counts as missing, so that the next apply writes it again. */
export function declarationsIn(database: DatabaseSync): Declarations {
  const isThere = database
    .prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'declarations'")
    .get()
  // An earlier version made the database, and nothing has written to it since.
  if (!isThere) return new Map()
  const rows = database.prepare('SELECT machine, declaration FROM declarations').all()
  return new Map(
    rows.flatMap(({ machine, declaration }) => {
      const read = readDeclaration(declaration)
      return read ? [[String(machine), read] as const] : []
    }),
  )
}

function readDeclaration(text: unknown): Declaration | undefined {
  try {
    return parse(declarationSchema, text)
  } catch {
    return undefined
  }
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
