/**
 * Facts that the server learnt of machines. They outlive a restart of the server: otherwise it would
 * not know a machine that runs until the machine boots again.
 */
import type { DatabaseSync } from 'node:sqlite'

import { messageOf, NetimageError } from '../errors.ts'
import { createBatch } from './batch.ts'

/**
 * - `processor`: of a hardware address
 * - `address`: the hardware address of an IP address
 * - `serial`: the serial number of a machine, of its hardware address
 */
export type FactKind = 'processor' | 'address' | 'serial'

export interface Facts {
  /** The facts of earlier runs of the server, by what they are about. */
  known: (kind: FactKind) => ReadonlyMap<string, string>
  /**
   * Keeps a new fact, or a fact that has changed. Facts of one turn of the event loop are written in
   * one transaction at its end.
   */
  keep(kind: FactKind, about: string, fact: string): void
  /** Writes all facts that are not written yet. */
  flush(): void
}

/** Facts of one kind: the oldest is forgotten first. */
const maxFacts = 4096

export function readFacts(database: DatabaseSync): Facts['known'] {
  const rows = database.prepare('SELECT kind, about, fact FROM facts ORDER BY rowid').all()
  return (kind) => {
    const ofKind = rows.filter((row) => row['kind'] === kind)
    return new Map(ofKind.map((row) => [String(row['about']), String(row['fact'])]))
  }
}

/** @param onError called once for a row of failures */
export function openFacts(database: DatabaseSync, onError: (error: NetimageError) => void): Facts {
  const known = readFacts(database)
  // A new row has the highest number, so the numbers tell the order in which facts came.
  const write = database.prepare(
    'INSERT OR REPLACE INTO facts (kind, about, fact) VALUES (?, ?, ?)',
  )
  const forget = database.prepare(
    `DELETE FROM facts WHERE kind = ?1 AND rowid <=
       (SELECT rowid FROM facts WHERE kind = ?1 ORDER BY rowid DESC LIMIT 1 OFFSET ?2)`,
  )
  let waiting = new Map<string, [FactKind, string, string]>()
  const batch = createBatch({
    database,
    write() {
      const facts = [...waiting.values()]
      waiting = new Map()
      for (const fact of facts) write.run(...fact)
      for (const kind of new Set(facts.map(([kind]) => kind))) forget.run(kind, maxFacts)
    },
    toError: (cause) => keepError(database, cause),
    onError,
  })

  return {
    known,
    keep(kind, about, fact) {
      waiting.set(`${kind} ${about}`, [kind, about, fact])
      batch.isDue()
    },
    flush: batch.flush,
  }
}

function keepError(database: DatabaseSync, cause: unknown): NetimageError {
  const problem = `could not keep what was learnt of a machine in ${database.location()}`
  return new NetimageError('file-system', `${problem}: ${messageOf(cause)}`, {
    cause,
    hint: 'Make room on the disk. Machines still boot, but after a restart the server knows less of them.',
  })
}
