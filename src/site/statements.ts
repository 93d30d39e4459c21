/** What is read from the database of a site and written to it. */
import type { DatabaseSync, StatementSync } from 'node:sqlite'

import { isDatabaseError } from '../database-error.ts'
import { declarationsIn, declarationWriter, type Declarations } from './declarations.ts'
import type { Lives } from './life/begin.ts'
import { newLife, type Life } from './life/life.ts'
import type { HostKey } from './host-key/open-ssh.ts'
import { hostKeyReader } from './host-key/rows.ts'
import { logWriter, type NoteInLog } from './log/rows.ts'
import {
  rolloutFingerprinter,
  rolloutReader,
  rolloutWriter,
  type RolloutWriter,
  type SiteRollouts,
  requestReader,
} from './rollout/statements.ts'
import type { RestartRequest } from './rollout/rollout.ts'
import { BrokenRow, readAttempt, readGeneration, readMachine } from './rows.ts'

type Wanted = (machine: string) => boolean

export interface SiteReader {
  /**
   * All machines that have booted, or for which somebody chose or named something.
   *
   * @param onBroken is told about machines with broken rows, which are left out
   * @param wanted whether a machine is to be read; default: all machines
   */
  lives: (onBroken: (error: BrokenRow) => void, wanted?: Wanted) => Life[]
  /** @throws `BrokenRow` */
  lifeOf: (machine: string) => Life
  /**
   * Another text than before, if the machine has given a sign, or boots something else next. It can be the
   * same after other changes. Costs little.
   */
  lifeFingerprint: (machine: string) => string
  /** By machine. */
  lifeFingerprints: () => ReadonlyMap<string, string>
  /** Names by machine. */
  names: () => ReadonlyMap<string, string>
  /** @param onBroken is told about machines with broken rows, which are left out */
  declarations: (onBroken: (error: BrokenRow) => void) => Declarations
  /** The key that the site made for the machine. @throws `NetimageError` `bad-state` if its row is broken */
  hostKeyOf: (machine: string) => HostKey | undefined
  uptime: () => number
  rollouts: () => SiteRollouts
  /** When the machine was last asked to restart. Undefined also if this row is broken. */
  restartRequestOf: (machine: string) => RestartRequest | undefined
  /** Another text than before, if a roll-out has changed in more than its machines. */
  rolloutFingerprint: () => string
}

export interface SiteWriter extends Lives {
  lives: SiteReader['lives']
  uptime(): number
  /** Does nothing if more is counted already. */
  setUptime(uptime: number): void
  names(): ReadonlyMap<string, string>
  setName(machine: string, name: string): void
  declarations: SiteReader['declarations']
  /** Replaces all declarations. */
  setDeclarations(all: Declarations): void
  /** Only for a machine that has none. */
  setHostKey(machine: string, privateKey: string): void
  /** Adds a row to the log. */
  note: NoteInLog
  rollouts: RolloutWriter
}

/** @param file the name of the database, for errors */
export function readerOf(database: DatabaseSync, file: string): SiteReader {
  const machines = database.prepare('SELECT machine, life FROM machines ORDER BY machine')
  const machine = database.prepare('SELECT life FROM machines WHERE machine = ?')
  const generations = database.prepare(
    'SELECT generation FROM generations WHERE machine = ? ORDER BY number',
  )
  const attempts = database.prepare(
    'SELECT attempt FROM attempts WHERE machine = ? ORDER BY number',
  )
  const names = database.prepare('SELECT name, machine FROM names')
  const uptime = database.prepare('SELECT uptime FROM site')

  const rollouts = rolloutReader(database, file)

  function read(name: string, row: unknown): Life {
    try {
      return {
        ...readMachine(row),
        machine: name,
        generations: generations.all(name).map((each) => readGeneration(each['generation'])),
        attempts: attempts.all(name).map((each) => readAttempt(each['attempt'])),
      }
    } catch (error) {
      // An error of SQLite is about the whole file.
      if (isDatabaseError(error)) throw error
      throw new BrokenRow(file, name, error)
    }
  }

  /** Another process may write between two statements: what is read would not fit together. */
  function atOneMoment<T>(action: () => T): T {
    if (database.isTransaction) return action()
    database.exec('BEGIN')
    try {
      return action()
    } finally {
      if (database.isTransaction) database.exec('COMMIT')
    }
  }

  return {
    lives: (onBroken, wanted = () => true) =>
      atOneMoment(() =>
        machines.all().flatMap(({ machine, life }) => {
          const name = String(machine)
          try {
            return wanted(name) ? [read(name, life)] : []
          } catch (error) {
            if (!(error instanceof BrokenRow)) throw error
            onBroken(error)
            return []
          }
        }),
      ),
    lifeOf: (name) =>
      atOneMoment(() => {
        const row = machine.get(name)
        return row ? read(name, row['life']) : newLife(name)
      }),
    lifeFingerprint: (name) => String(machine.get(name)?.['life'] ?? ''),
    lifeFingerprints: () =>
      new Map(machines.all().map(({ machine, life }) => [String(machine), String(life)])),
    names: () => new Map(names.all().map((row) => [String(row['machine']), String(row['name'])])),
    declarations: (onBroken) => declarationsIn(database, file, onBroken),
    hostKeyOf: hostKeyReader(database, file),
    uptime: () => Number(uptime.get()?.['uptime'] ?? 0),
    rollouts: () => atOneMoment(rollouts),
    restartRequestOf: requestReader(database, file),
    rolloutFingerprint: rolloutFingerprinter(database),
  }
}

export function writerOf(database: DatabaseSync, file: string): SiteWriter {
  const reader = readerOf(database, file)
  // These conditions are as the indexes have them, so no row is read that is not wanted.
  const ran = database.prepare(
    "SELECT count(*) AS machines FROM machines WHERE life ->> 'lastSign' >= ?",
  )
  const restarted = database.prepare(
    "SELECT count(*) AS machines FROM machines WHERE life ->> '$.restart.uptime' >= ?",
  )
  const failed = database.prepare(
    `SELECT machine FROM machines
     WHERE life ->> '$.restart.uptime' >= ? AND life ->> '$.restart.failed' IS NOT NULL`,
  )
  const setMachine = database.prepare('INSERT OR REPLACE INTO machines VALUES (?, ?)')
  /** Generations and attempts that are in the database as they are. A change makes new objects. */
  const stored = new WeakSet<object>()
  const lists = {
    generations: listWriter(database, 'generations', stored),
    attempts: listWriter(database, 'attempts', stored),
  }
  const unname = database.prepare('DELETE FROM names WHERE machine = ?')
  const setName = database.prepare('INSERT INTO names (machine, name) VALUES (?, ?)')
  const setHostKey = database.prepare('INSERT INTO host_keys VALUES (?, ?)')
  const setUptime = database.prepare('UPDATE site SET uptime = max(uptime, ?)')

  function canRead(machine: string): boolean {
    try {
      reader.lifeOf(machine)
      return true
    } catch (error) {
      if (error instanceof BrokenRow) return false
      throw error
    }
  }

  return {
    of(machine) {
      const life = reader.lifeOf(machine)
      for (const each of [...life.generations, ...life.attempts]) stored.add(each)
      return life
    },
    keep({ generations, attempts, ...row }) {
      setMachine.run(row.machine, JSON.stringify(row))
      lists.generations(row.machine, generations)
      lists.attempts(row.machine, attempts)
    },
    ranSince: (uptime) => Number(ran.get(uptime)?.['machines']),
    restartedSince: (uptime) => Number(restarted.get(uptime)?.['machines']),
    failedSince: (uptime) =>
      failed
        .all(uptime)
        .flatMap(({ machine }) => (canRead(String(machine)) ? [String(machine)] : [])),
    lives: reader.lives,
    uptime: reader.uptime,
    names: reader.names,
    setUptime: (uptime) => void setUptime.run(Math.round(uptime)),
    setName(machine, name) {
      unname.run(machine)
      setName.run(machine, name)
    },
    declarations: reader.declarations,
    setDeclarations: declarationWriter(database),
    setHostKey: (machine, privateKey) => void setHostKey.run(machine, privateKey),
    note: logWriter(database),
    rollouts: rolloutWriter(database, file),
  }
}

/** Writes the rows that have changed, and removes those that are forgotten. */
function listWriter(
  database: DatabaseSync,
  table: 'generations' | 'attempts',
  stored: WeakSet<object>,
) {
  const column = table.slice(0, -1)
  const set: StatementSync = database.prepare(
    `INSERT INTO ${table} VALUES (?1, ?2, ?3)
     ON CONFLICT DO UPDATE SET ${column} = excluded.${column} WHERE ${column} <> excluded.${column}`,
  )
  const known = database.prepare(`SELECT number FROM ${table} WHERE machine = ?`)
  const forget = database.prepare(`DELETE FROM ${table} WHERE machine = ? AND number = ?`)
  return (machine: string, list: readonly { number: number }[]) => {
    const numbers = new Set(list.map(({ number }) => number))
    for (const row of known.all(machine)) {
      const number = Number(row['number'])
      if (!numbers.has(number)) forget.run(machine, number)
    }
    for (const each of list) {
      if (stored.has(each)) continue
      set.run(machine, each.number, JSON.stringify(each))
      stored.add(each)
    }
  }
}
