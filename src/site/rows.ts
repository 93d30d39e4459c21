/** The rows of the site's database: each holds a part of a machine's life as JSON. */
import * as v from 'valibot'

import { bootSteps } from '../boots/step.ts'
import { messageOf, NetimageError } from '../errors.ts'
import type { Attempt, Generation, Life } from './life/life.ts'

export const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
export const milliseconds = v.pipe(v.number(), v.finite())

const port = v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(65_535))

export const policyEntries = { tries: count, deadline: milliseconds, settle: milliseconds }

/** TCP ports. */
export const ports = v.array(port)

export const candidateEntries = {
  image: v.string(),
  toplevel: v.string(),
  published: v.exactOptional(v.string()),
  keptImages: v.exactOptional(v.array(v.string())),
  specialisations: v.exactOptional(v.array(v.string())),
  blesses: v.boolean(),
}

const generationSchema = v.object({
  number: count,
  ...candidateEntries,
  madeAt: milliseconds,
  verdict: v.picklist(['trial', 'good', 'bad']),
  verdictNumber: v.exactOptional(count),
  reason: v.exactOptional(v.string()),
  failures: count,
  spent: milliseconds,
  badBy: v.exactOptional(count),
  isExcused: v.exactOptional(v.literal(true)),
  isGone: v.exactOptional(v.literal(true)),
  begun: v.exactOptional(v.object({ attempt: count, after: count })),
  policy: v.exactOptional(v.object({ ...policyEntries, tcp: v.exactOptional(ports) })),
})

const attemptSchema = v.object({
  number: count,
  generation: count,
  keptImages: v.array(v.string()),
  startedAt: milliseconds,
  from: milliseconds,
  hasAsked: v.exactOptional(v.literal(true)),
  outcome: v.picklist(['running', 'good', 'failed', 'void']),
  reason: v.exactOptional(v.string()),
  step: v.exactOptional(v.picklist(bootSteps)),
  trouble: v.exactOptional(v.string()),
  bootId: v.exactOptional(v.string()),
  otherSystem: v.exactOptional(v.string()),
  upFrom: v.exactOptional(milliseconds),
  hasAnswered: v.exactOptional(v.literal(true)),
  unseenFrom: v.exactOptional(milliseconds),
})

const machineSchema = v.object({
  machine: v.string(),
  current: v.exactOptional(count),
  lastGood: v.exactOptional(count),
  isChosen: v.boolean(),
  offered: v.exactOptional(v.string()),
  profile: v.exactOptional(v.string()),
  lastSign: v.exactOptional(milliseconds),
  lastSignAt: v.exactOptional(milliseconds),
  restart: v.exactOptional(v.object({ uptime: milliseconds, failed: v.exactOptional(count) })),
  waitsFrom: v.exactOptional(milliseconds),
  alarm: v.exactOptional(count),
  stateBack: v.exactOptional(v.object({ to: count, before: count, after: count })),
  keep: v.exactOptional(count),
  forgotten: v.exactOptional(v.object({ generation: count, attempt: count })),
})

/** A life without its lists, which have rows of their own. */
export type MachineRow = Omit<Life, 'generations' | 'attempts'>

/**
 * Rows of a machine that are not what netimage writes. All other machines go on.
 *
 * @param file the database
 */
export class BrokenRow extends NetimageError {
  readonly machine: string

  constructor(file: string, machine: string, cause: unknown, hint = hintFor(file, machine)) {
    const reason = messageOf(cause)
    super('bad-state', `a row of ${machine} in ${file} is broken: ${reason}`, {
      ...{ cause, details: { file }, hint },
    })
    this.machine = machine
  }
}

function hintFor(file: string, machine: string): string {
  const one = `'${machine.replaceAll("'", "''")}'`
  const last = (kind: 'generation' | 'attempt') => {
    const inRows = `(SELECT max(number) FROM ${kind}s WHERE machine = ${one})`
    // The machine may have been forgotten before.
    const before = `(SELECT CAST(life -> 'forgotten' ->> '${kind}' AS INTEGER) FROM machines WHERE machine = ${one} AND json_valid(life))`
    return `max(coalesce(${inRows}, 0), coalesce(${before}, 0))`
  }
  // Snapshots, boots and roll-outs refer to the numbers, so they are not used again.
  const numbers = `json_object('generation', ${last('generation')}, 'attempt', ${last('attempt')})`
  const life = `json_object('machine', ${one}, 'isChosen', json('false'), 'forgotten', ${numbers})`
  const sql = [
    `REPLACE INTO machines VALUES (${one}, ${life});`,
    ...['attempts', 'generations', 'restart_requests'].map(
      (table) => `DELETE FROM ${table} WHERE machine = ${one};`,
    ),
  ]
  return `Put back a copy of the file from a backup. Or let the site forget this machine: sqlite3 ${file} "${sql.join(' ')}". Then the machine begins again with the image of the server, and keeps its files.`
}

/** @throws an error of JSON or of the schema */
export const readMachine = (text: unknown): MachineRow => parse(machineSchema, text)
export const readGeneration = (text: unknown): Generation => parse(generationSchema, text)
export const readAttempt = (text: unknown): Attempt => parse(attemptSchema, text)

export function parse<T extends v.GenericSchema>(schema: T, text: unknown): v.InferOutput<T> {
  return v.parse(schema, typeof text === 'string' ? JSON.parse(text) : undefined)
}
