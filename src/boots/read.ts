/** Reads the record of boots, which `netimage boots` shows. */
import { statSync } from 'node:fs'
import { isIPv4 } from 'node:net'
import type { DatabaseSync, SQLOutputValue } from 'node:sqlite'
import * as v from 'valibot'

import { fileSystemError } from '../errors.ts'
import { openBootsToRead, recordFile } from './database.ts'
import { readFacts } from './facts.ts'
import type { Boot } from './follow.ts'
import { bootSteps, type BootStep } from './step.ts'

export interface RecordedEvent {
  at: number
  event: unknown
}

const time = v.pipe(v.number(), v.safeInteger())
const isStep = (name: string): name is BootStep => bootSteps.some((step) => step === name)
const bootSchema = v.object({
  machine: v.string(),
  address: v.optional(v.string()),
  started: time,
  // Another version of netimage may have other steps.
  step: v.string(),
  steps: v.record(v.string(), v.optional(time)),
  lastSign: time,
  bytes: v.number(),
  trouble: v.optional(v.string()),
})

/**
 * Reads boots, the newest first, even if the clock went back meanwhile.
 *
 * @param machine reads only boots of this hardware or IP address
 * @param onDamaged called with the number of boots that cannot be read and are left out
 */
export function readBoots(
  state: string,
  machine: string | undefined,
  limit: number,
  onDamaged: (count: number) => void = () => {},
): Boot[] {
  const file = recordFile(state)
  if (!isThere(file)) return []
  const database = openBootsToRead(state)
  try {
    const rows = database
      .prepare(`SELECT boot FROM boots WHERE ${conditionFor(machine)} ORDER BY id DESC LIMIT ?2`)
      .all(machine ?? null, limit)
    const boots = rows.flatMap(fromRow)
    if (boots.length < rows.length) onDamaged(rows.length - boots.length)
    return boots
  } finally {
    database.close()
  }
}

/** The serial numbers that machines have told the server, by hardware address. */
export function readSerials(state: string): ReadonlyMap<string, string> {
  if (!isThere(recordFile(state))) return new Map()
  const database = openBootsToRead(state)
  try {
    return readFacts(database)('serial')
  } finally {
    database.close()
  }
}

/** Only for an IP address, all boots must be looked through. */
function conditionFor(machine: string | undefined): string {
  if (machine === undefined) return '?1 IS NULL'
  if (!isIPv4(machine)) return 'machine = ?1'
  return `(machine = ?1 OR (json_valid(boot) AND json_extract(boot, '$.address') = ?1))`
}

export interface FoundBoots {
  /** The newest first. */
  boots: Boot[]
  /** How many boots could not be read, and were left out. */
  broken?: number
  /** Only for one machine: the events of its newest boot, in the order in which they happened. */
  events?: RecordedEvent[]
}

/** As `readBoots`, with the events of the newest boot if a machine is named. */
export function findBoots(state: string, machine: string | undefined, limit: number): FoundBoots {
  let broken = 0
  const boots = readBoots(state, machine, limit, (count) => (broken = count))
  const [last] = boots
  return {
    boots,
    ...(broken > 0 && { broken }),
    ...(machine !== undefined && last && { events: readEvents(state, last) }),
  }
}

/** @throws `NetimageError` `file-system` if the user may not look into the directory */
function isThere(file: string): boolean {
  try {
    return statSync(file, { throwIfNoEntry: false }) !== undefined
  } catch (error) {
    const hint = 'Run this as the user of the server, or as root.'
    throw fileSystemError(`could not read ${file}`, error, { hint })
  }
}

/** All recorded events of one boot, in the order in which they happened. */
export function readEvents(state: string, boot: Boot): RecordedEvent[] {
  const database = openBootsToRead(state)
  try {
    return database
      .prepare(
        `SELECT at, event FROM events JOIN boots ON boots.id = events.boot
         WHERE machine = ? AND started = ? ORDER BY events.rowid`,
      )
      .all(boot.machine, boot.started)
      .map((row) => ({ at: Number(row['at']), event: parseJson(row['event']) }))
  } finally {
    database.close()
  }
}

/** One boot with its events. @returns undefined if there is none, or it cannot be read */
export function findBoot(
  state: string,
  machine: string,
  started: number,
): { boot: Boot; events: RecordedEvent[] } | undefined {
  if (!isThere(recordFile(state))) return undefined
  const database = openBootsToRead(state)
  try {
    const row = database
      .prepare('SELECT boot FROM boots WHERE machine = ? AND started = ?')
      .get(machine, started)
    const [boot] = row ? fromRow(row) : []
    return boot && { boot, events: readEvents(state, boot) }
  } finally {
    database.close()
  }
}

/**
 * The last boot of each machine that was served, the newest first.
 *
 * @param database that a server has open
 */
export function readLastBoots(database: DatabaseSync, limit: number): Boot[] {
  return database
    .prepare(
      `SELECT boot FROM boots
       WHERE id IN (SELECT max(id) FROM boots WHERE served = 1 GROUP BY machine)
       ORDER BY id DESC LIMIT ?`,
    )
    .all(limit)
    .flatMap(fromRow)
}

function fromRow(row: Record<string, SQLOutputValue>): Boot[] {
  const boot = toBoot(parseJson(row['boot']))
  return boot ? [boot] : []
}

function toBoot(document: unknown): Boot | undefined {
  const result = v.safeParse(bootSchema, document)
  if (!result.success) return undefined
  const { address, trouble, step, steps, ...boot } = result.output
  const reached: Partial<Record<BootStep, number>> = {}
  for (const name of bootSteps) {
    const at = steps[name]
    if (at !== undefined) reached[name] = at
  }
  const last = bootSteps.findLast((name) => reached[name] !== undefined) ?? 'dhcp'
  return {
    ...boot,
    step: isStep(step) ? step : last,
    steps: reached,
    ...(address !== undefined && { address }),
    ...(trouble !== undefined && { trouble }),
  }
}

function parseJson(text: unknown): unknown {
  try {
    return typeof text === 'string' ? JSON.parse(text) : undefined
  } catch {
    return undefined
  }
}
