/** What is read of roll-outs from the database of a site, and written to it. */
import type { DatabaseSync, SQLOutputValue } from 'node:sqlite'

import { isDatabaseError } from '../../database-error.ts'
import { messageOf, NetimageError } from '../../errors.ts'
import { BrokenRow } from '../rows.ts'
import {
  readReadiness,
  readRequest,
  readRollout,
  readRolloutMachine,
  type RolloutRow,
} from './rows.ts'
import type { Readiness, RestartRequest, Rollout, RolloutMachine } from './rollout.ts'

export const rolloutSchema = `
  CREATE TABLE IF NOT EXISTS rollouts (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    rollout TEXT NOT NULL
  ) STRICT;
  CREATE TABLE IF NOT EXISTS rollout_machines (
    number INTEGER NOT NULL,
    machine TEXT NOT NULL,
    member TEXT NOT NULL,
    PRIMARY KEY (number, machine)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS holds (
    machine TEXT PRIMARY KEY,
    at INTEGER NOT NULL,
    who TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS groups (
    machine TEXT PRIMARY KEY,
    name TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS restart_requests (
    machine TEXT PRIMARY KEY,
    request TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS readiness (
    machine TEXT PRIMARY KEY,
    readiness TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
`

/** Older roll-outs are forgotten. */
const keptRollouts = 50

/** Roll-outs leave the machine out from then on. */
export interface Hold {
  at: number
  by: string
}

/** The newest roll-out of a group has rows that are not what netimage writes. All others go on. */
export class BrokenRollout extends NetimageError {
  readonly number: number
  readonly group: string
  /** Those of its machines whose rows are whole. */
  readonly machines: ReadonlyMap<string, RolloutMachine>

  /** @param file the database */
  constructor(
    file: string,
    { number, group, machines }: Pick<BrokenRollout, 'number' | 'group' | 'machines'>,
    cause: unknown,
  ) {
    const problem = `a row of roll-out ${number} of ${group} in ${file} is broken: ${messageOf(cause)}`
    super('bad-state', problem, {
      ...{ cause, details: { file } },
      hint: 'Put back a copy of the file from a backup. Or begin another roll-out of the group: netimage site apply. Until then, its machines keep what they were given, and may not publish systems.',
    })
    this.number = number
    this.group = group
    this.machines = machines
  }
}

/** All of it is of one moment. */
export interface SiteRollouts {
  /** The newest roll-out of each group. */
  newest: readonly Rollout[]
  /** The machines that roll-outs leave out. */
  holds: ReadonlyMap<string, Hold>
  /** The groups of machines, by machine, as they were applied last. */
  groups: ReadonlyMap<string, string>
  /** Those of these with broken rows, which are left out. One whose group has no machine any more is over. */
  broken: readonly BrokenRollout[]
  /** When each machine was last asked to restart. */
  requests: ReadonlyMap<string, RestartRequest>
  /** Broken rows of this. Nobody knows whether the machine is going down: see broken-requests.ts. */
  brokenRequests: readonly BrokenRow[]
  /** What machines that restart themselves last said. */
  readiness: ReadonlyMap<string, Readiness>
}

export interface RolloutWriter {
  read(): SiteRollouts
  /** The number of the next roll-out. */
  nextNumber(): number
  /** Of its machines, those are written that have changed since they were read. */
  keep(rollout: Rollout): void
  /** When the machine was last asked to restart. Undefined also if this row is broken. */
  requestOf(machine: string): RestartRequest | undefined
  /** Replaces when the machine was last asked to restart. Undefined: it was not asked. */
  setRequest(machine: string, request: RestartRequest | undefined): void
  setReadiness(machine: string, readiness: Readiness): void
  hold(machine: string, hold: Hold): void
  /** @returns false if the machine was not held */
  release(machine: string): boolean
  /** Replaces all groups. */
  setGroups(groups: ReadonlyMap<string, string>): void
}

/** @returns undefined if the group has no roll-out. @throws `BrokenRollout` */
export function newestOf({ newest, broken }: SiteRollouts, group: string): Rollout | undefined {
  const error = broken.find((each) => each.group === group)
  if (error) throw error
  return newest.find((each) => each.group === group)
}

/** Of a site that nothing was rolled out in. */
export const noRollouts: SiteRollouts = {
  ...{ newest: [], holds: new Map(), groups: new Map(), broken: [] },
  ...{ requests: new Map(), brokenRequests: [], readiness: new Map() },
}

/** Another text than before, if a roll-out has changed in more than its machines. Costs little. */
export function rolloutFingerprinter(database: DatabaseSync): () => string {
  const newest = database.prepare(
    'SELECT max(number) AS number, rollout FROM rollouts GROUP BY name',
  )
  return () =>
    newest
      .all()
      .map((row) => String(row['rollout']))
      .join('\n')
}

/**
 * @param file the name of the database, for errors
 * @param stored is given the rows of machines that are in the database as they are
 */
export function rolloutReader(
  database: DatabaseSync,
  file: string,
  stored?: WeakSet<object>,
): () => SiteRollouts {
  const rollouts = database.prepare(
    'SELECT max(number) AS number, name, rollout FROM rollouts GROUP BY name ORDER BY number',
  )
  const machines = database.prepare(
    'SELECT machine, member FROM rollout_machines WHERE number = ? ORDER BY machine',
  )
  const holds = database.prepare('SELECT machine, at, who FROM holds')
  const groups = database.prepare('SELECT machine, name FROM groups')
  const requests = database.prepare('SELECT machine, request FROM restart_requests')
  const readiness = database.prepare('SELECT machine, readiness FROM readiness')

  function readOne(number: number, text: unknown): Rollout {
    const members = machines.all(number).map(({ machine, member }) => {
      const read = readRolloutMachine(member)
      stored?.add(read)
      return [String(machine), read] as const
    })
    return { ...readRollout(text), machines: Object.fromEntries(members) }
  }

  function wholeMachines(number: number): Map<string, RolloutMachine> {
    const [whole] = wholeOf(
      machines.all(number),
      ({ machine, member }) => [String(machine), readRolloutMachine(member)] as const,
      () => undefined,
    )
    return new Map(whole)
  }

  function newest(groups: ReadonlySet<string>): Pick<SiteRollouts, 'newest' | 'broken'> {
    const [newest, broken] = wholeOf(
      rollouts.all(),
      ({ number, rollout }) => readOne(Number(number), rollout),
      (row, error) => {
        const number = Number(row['number'])
        const group = String(row['name'])
        return new BrokenRollout(file, { number, group, machines: wholeMachines(number) }, error)
      },
    )
    return { newest, broken: broken.filter(({ group }) => groups.has(group)) }
  }

  return () => {
    const found = new Map(groups.all().map(({ machine, name }) => [String(machine), String(name)]))
    return {
      ...newest(new Set(found.values())),
      ...readAllRequests(file, requests.all()),
      readiness: new Map(readiness.all().flatMap(readinessIn)),
      holds: new Map(
        holds
          .all()
          .map(({ machine, at, who }) => [String(machine), { at: Number(at), by: String(who) }]),
      ),
      groups: found,
    }
  }
}

/** What cannot be read counts as not said: the machine says it again. */
function readinessIn({ machine, readiness }: Record<string, SQLOutputValue>) {
  try {
    return [[String(machine), readReadiness(readiness)] as const]
  } catch {
    return []
  }
}

function readAllRequests(
  file: string,
  rows: Record<string, SQLOutputValue>[],
): Pick<SiteRollouts, 'requests' | 'brokenRequests'> {
  const [whole, broken] = wholeOf(
    rows,
    ({ machine, request }) => [String(machine), readRequest(request)] as const,
    ({ machine }, error) => brokenRequest(file, String(machine), error),
  )
  return { requests: new Map(whole), brokenRequests: broken }
}

/** What can be read of the rows, and what is wrong with the others. */
function wholeOf<Row, T, Broken>(
  rows: readonly Row[],
  read: (row: Row) => T,
  explain: (row: Row, error: unknown) => Broken,
): [T[], Broken[]] {
  const [whole, broken]: [T[], Broken[]] = [[], []]
  for (const row of rows) {
    try {
      whole.push(read(row))
    } catch (error) {
      // An error of SQLite is about the whole file.
      if (isDatabaseError(error)) throw error
      broken.push(explain(row, error))
    }
  }
  return [whole, broken]
}

function brokenRequest(file: string, machine: string, cause: unknown): BrokenRow {
  const quoted = `'${machine.replaceAll("'", "''")}'`
  const hint = `The row says when the machine was asked to restart. If a roll-out has the machine, the server writes the row anew, and waits until the deadline whether the machine starts again. Otherwise, once the machine is up, remove the row: sqlite3 ${file} "DELETE FROM restart_requests WHERE machine = ${quoted};".`
  return new BrokenRow(file, machine, cause, hint)
}

/** @param file the name of the database, for errors */
export function requestReader(database: DatabaseSync, file: string): RolloutWriter['requestOf'] {
  const requestOf = database.prepare(
    'SELECT machine, request FROM restart_requests WHERE machine = ?',
  )
  return (machine) => readAllRequests(file, requestOf.all(machine)).requests.get(machine)
}

export function rolloutWriter(database: DatabaseSync, file: string): RolloutWriter {
  /** Rows that are in the database as they are. A change makes new objects. */
  const stored = new WeakSet<object>()
  const read = rolloutReader(database, file, stored)
  const last = database.prepare('SELECT max(number) AS number FROM rollouts')
  const set = database.prepare('INSERT OR REPLACE INTO rollouts VALUES (?, ?, ?)')
  const setMachine = database.prepare('INSERT OR REPLACE INTO rollout_machines VALUES (?, ?, ?)')
  const forget = ['rollout_machines', 'rollouts'].map((table) =>
    database.prepare(
      `DELETE FROM ${table} WHERE number <= ?
       AND number NOT IN (SELECT max(number) FROM rollouts GROUP BY name)`,
    ),
  )
  const setRequest = database.prepare('INSERT OR REPLACE INTO restart_requests VALUES (?, ?)')
  const forgetRequest = database.prepare('DELETE FROM restart_requests WHERE machine = ?')
  const setReadiness = database.prepare('INSERT OR REPLACE INTO readiness VALUES (?, ?)')
  const hold = database.prepare('INSERT OR REPLACE INTO holds VALUES (?, ?, ?)')
  const release = database.prepare('DELETE FROM holds WHERE machine = ?')
  const clearGroups = database.prepare('DELETE FROM groups')
  const addGroup = database.prepare('INSERT INTO groups VALUES (?, ?)')
  return {
    read,
    nextNumber: () => Number(last.get()?.['number'] ?? 0) + 1,
    keep({ machines, ...row }) {
      set.run(row.number, row.group, JSON.stringify(row satisfies RolloutRow))
      for (const [machine, member] of Object.entries(machines)) {
        if (stored.has(member)) continue
        setMachine.run(row.number, machine, JSON.stringify(member))
        stored.add(member)
      }
      for (const statement of forget) statement.run(row.number - keptRollouts)
    },
    requestOf: requestReader(database, file),
    setRequest(machine, request) {
      if (request) setRequest.run(machine, JSON.stringify(request))
      else forgetRequest.run(machine)
    },
    setReadiness: (machine, readiness) => void setReadiness.run(machine, JSON.stringify(readiness)),
    hold: (machine, { at, by }) => void hold.run(machine, Math.round(at), by),
    release: (machine) => Number(release.run(machine).changes) > 0,
    setGroups(groups) {
      clearGroups.run()
      for (const [machine, name] of groups) addGroup.run(machine, name)
    },
  }
}
