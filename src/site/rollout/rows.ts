/** The rows of roll-outs in the site's database, as JSON. */
import * as v from 'valibot'

import { candidateEntries, count, milliseconds, parse, policyEntries, ports } from '../rows.ts'
import type { Readiness, RestartRequest, Rollout, RolloutMachine } from './rollout.ts'

const command = v.pipe(v.array(v.string()), v.minLength(1))

const rolloutSchema = v.object({
  number: count,
  group: v.string(),
  candidate: v.object(candidateEntries),
  health: v.object({ ...policyEntries, tcp: ports }),
  maxUnavailable: count,
  halt: count,
  rebuild: v.picklist(['allow', 'refuse']),
  keep: count,
  waves: v.pipe(
    v.array(v.object({ machines: v.array(v.string()), pause: v.boolean() })),
    v.minLength(1),
  ),
  startedAt: milliseconds,
  state: v.picklist(['running', 'paused', 'halted', 'aborted', 'done', 'replaced']),
  reason: v.exactOptional(v.string()),
  haltedBy: v.exactOptional(v.array(v.string())),
  beforeHalt: v.exactOptional(
    v.object({ state: v.picklist(['paused', 'done']), reason: v.exactOptional(v.string()) }),
  ),
  wave: count,
})

const machineSchema = v.object({
  restart: v.exactOptional(
    v.object({ reboot: v.exactOptional(command), power: v.exactOptional(command) }),
  ),
  given: v.exactOptional(
    v.object({
      generation: count,
      from: milliseconds,
      before: v.object({ current: v.exactOptional(count), isChosen: v.boolean() }),
      after: v.exactOptional(count),
    }),
  ),
  refused: v.exactOptional(count),
})

const requestEntries = {
  rollout: count,
  group: v.string(),
  kind: v.picklist(['reboot', 'power', 'itself']),
  attempt: count,
  uptime: milliseconds,
  times: count,
  command: v.picklist(['due', 'begun', 'ended', 'cut off']),
}

const requestSchema = v.object({
  ...requestEntries,
  before: v.exactOptional(v.object(requestEntries)),
})

const readinessSchema = v.object({ isReady: v.boolean(), uptime: milliseconds, attempt: count })

/** A roll-out without its machines, which have rows of their own. */
export type RolloutRow = Omit<Rollout, 'machines'>

/** @throws an error of JSON or of the schema */
export const readRollout = (text: unknown): RolloutRow => parse(rolloutSchema, text)
export const readRolloutMachine = (text: unknown): RolloutMachine => parse(machineSchema, text)
export const readReadiness = (text: unknown): Readiness => parse(readinessSchema, text)
export const readRequest = (text: unknown): RestartRequest => parse(requestSchema, text)
