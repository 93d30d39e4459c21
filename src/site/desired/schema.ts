/** The form of the file of a site. Each schema says what it wants in words for people. */
import { isIPv4 } from 'node:net'
import * as v from 'valibot'

import { parseMac } from '../../mac.ts'
import { isPlainObject } from '../../plain-object.ts'
import { parseSerial } from '../../serial-number.ts'
import { isMachineName } from '../machine-name.ts'
import type { Health } from '../rollout/rollout.ts'
import {
  defaultGroup,
  type Desired,
  type DesiredMachine,
  type Group,
  type Share,
  type Wave,
} from './desired.ts'
import { parseDuration } from './duration.ts'
import { parseSelector } from './selector.ts'

/** @param must completes “is …, but”; the parser returns undefined for what it does not take */
function parsed<T>(parse: (input: unknown) => T | undefined, must: string) {
  return v.pipe(
    v.unknown(),
    v.rawTransform<unknown, T>(({ dataset, addIssue, NEVER }) => {
      const value = parse(dataset.value)
      if (value !== undefined) return value
      addIssue({ message: must })
      return NEVER
    }),
  )
}

const ofText =
  <T>(parse: (text: string) => T | undefined) =>
  (input: unknown) =>
    typeof input === 'string' ? parse(input) : undefined

/** A table that has only these keys. The message of an issue of type `never` names them. */
function table<E extends v.ObjectEntries>(entries: E) {
  return v.pipe(
    v.custom<Record<string, unknown>>(isPlainObject, 'it must be a table'),
    v.objectWithRest(entries, v.never(Object.keys(entries).join(', '))),
    v.transform((known): v.InferOutput<v.ObjectSchema<E, undefined>> => known),
  )
}

const name = v.pipe(
  v.string(),
  v.check(
    isMachineName,
    'it must be a name of small letters, digits and dashes, 63 at most, with no dash at the beginning or the end',
  ),
)

function wholeNumber(from: number, to: number) {
  const isOne = (input: unknown): input is number => Number.isInteger(input)
  return parsed(
    (input) => (isOne(input) && from <= input && input <= to ? input : undefined),
    `it must be a whole number from ${from} to ${to}`,
  )
}

function duration(shortest: number, example: string) {
  return parsed(
    ofText((text) => {
      const time = parseDuration(text)
      return time !== undefined && time >= shortest ? time : undefined
    }),
    `it must be a time such as ${example}`,
  )
}

function parseShare(input: unknown): Share | undefined {
  if (typeof input === 'number') {
    return Number.isSafeInteger(input) && input > 0 ? { count: input } : undefined
  }
  const [, digits] = /^(\d{1,3})%$/.exec(typeof input === 'string' ? input : '') ?? []
  const percent = Number(digits)
  return percent >= 1 && percent <= 100 ? { percent } : undefined
}

const mustBeShare =
  'it must be a number of machines such as 2, or a part of the group such as "10%"'
const share = parsed(parseShare, mustBeShare)

const selectors = v.array(
  parsed(
    ofText(parseSelector),
    'it must be the name of a machine, its hardware address, or a pattern such as "dc:a6:32:*"',
  ),
  'it must be a list of machines',
)

const mustBeWave = 'it must be a list of machines, a number, a part such as "25%", or "rest"'
const shareOrRest = parsed(
  (input): 'rest' | Share | undefined => (input === 'rest' ? 'rest' : parseShare(input)),
  mustBeWave,
)

const waveTable = v.pipe(
  table({
    machines: v.exactOptional(selectors),
    share: v.exactOptional(shareOrRest),
    pause: v.optional(v.boolean('it must be true or false'), false),
  }),
  v.rawTransform(({ dataset, addIssue, NEVER }): Wave => {
    const { machines, share, pause } = dataset.value
    if (machines && !share) return { members: { machines }, pause }
    if (share && !machines) return { members: share, pause }
    addIssue({ message: 'it must have either machines or share' })
    return NEVER
  }),
)
const listWave = v.pipe(
  selectors,
  v.transform((machines): Wave => ({ members: { machines }, pause: false })),
)
const shareWave = v.pipe(
  shareOrRest,
  v.transform((members): Wave => ({ members, pause: false })),
)
const wave = v.lazy((input) => {
  if (Array.isArray(input)) return listWave
  return isPlainObject(input) ? waveTable : shareWave
})

const health = v.pipe(
  table({
    deadline: v.exactOptional(duration(1000, '"10m"')),
    tries: v.exactOptional(wholeNumber(1, 100)),
    settle: v.exactOptional(duration(0, '"90s"')),
    tcp: v.exactOptional(v.array(wholeNumber(1, 65_535), 'it must be a list of ports')),
  }),
  v.transform((given): Health => ({ ...defaultGroup.health, ...given })),
)

const halt = v.pipe(
  table({ bad: share }),
  v.transform(({ bad }) => bad),
)

const group = v.pipe(
  table({
    system: parsed(
      ofText((text) => (/^[^\p{Cc}]+$/u.test(text) ? text : undefined)),
      'it must be a flake reference such as ".#lab", a store path, the directory of an image such as "./lab", or an image of the site',
    ),
    machines: selectors,
    waves: v.exactOptional(
      v.pipe(v.array(wave, 'it must be a list of waves'), v.minLength(1, 'it must have a wave')),
    ),
    'max-unavailable': v.optional(share, 1),
    health: v.exactOptional(health),
    halt: v.exactOptional(halt),
    rebuild: v.exactOptional(v.picklist(['allow', 'refuse'], 'it must be "allow" or "refuse"')),
    keep: v.exactOptional(wholeNumber(0, 100)),
  }),
  v.transform(({ 'max-unavailable': maxUnavailable, ...given }): Omit<Group, 'name'> => ({
    ...defaultGroup,
    ...given,
    maxUnavailable,
  })),
)

/** One or several. */
function oneOrMore(parse: (text: string) => string | undefined, must: string) {
  return parsed((input): string[] | undefined => {
    const all: unknown[] = Array.isArray(input) ? input : [input]
    const values = all.flatMap((each) => ofText(parse)(each) ?? [])
    return values.length === all.length ? values : undefined
  }, must)
}

const program = parsed((input): string[] | undefined => {
  const isText = (each: unknown): each is string => typeof each === 'string' && !/\0/.test(each)
  const isProgram = Array.isArray(input) && input.every(isText) && (input[0] ?? '') !== ''
  return isProgram ? input : undefined
}, 'it must be a list of a program and its arguments: ["ssh", "root@pi1", "reboot"]')

const machine = v.pipe(
  table({
    mac: v.optional(
      oneOrMore(parseMac, 'it must be a hardware address such as "dc:a6:32:01:02:03", or a list'),
      [],
    ),
    serial: v.optional(
      oneOrMore(
        parseSerial,
        'it must be the serial number of a Raspberry Pi, the UUID of another computer, or a list of them',
      ),
      [],
    ),
    'host-name': v.exactOptional(name),
    address: v.exactOptional(
      parsed(
        ofText((text) => (isIPv4(text) ? text : undefined)),
        'it must be an IPv4 address such as "10.0.0.11"',
      ),
    ),
    reboot: v.exactOptional(program),
    power: v.exactOptional(program),
  }),
  v.transform(
    ({
      mac: macs,
      serial: serials,
      'host-name': hostName,
      ...given
    }): Omit<DesiredMachine, 'name'> => ({
      ...{ macs, serials },
      ...given,
      ...(hostName !== undefined && { hostName }),
    }),
  ),
)

function tables<T extends v.GenericSchema<unknown, object>>(each: T) {
  return v.optional(
    v.pipe(
      v.custom<Record<string, unknown>>(isPlainObject, 'it must be a table of tables'),
      v.record(name, each),
    ),
    {},
  )
}

export const desiredSchema = v.pipe(
  table({ group: tables(group), machine: tables(machine) }),
  v.transform(({ group, machine }): Desired => ({
    groups: Object.entries(group).map(([name, each]) => ({ name, ...each })),
    machines: Object.entries(machine).map(([name, each]) => ({ name, ...each })),
  })),
)
