/** Says what a row of the log has, in one plain sentence. */
import { formatBytes } from '../../format-bytes.ts'
import { plural } from '../../progress.ts'
import type { Told } from '../life/life.ts'
import { shownDigits } from '../images/choose-image.ts'
import { saysDeclaration } from '../declarations.ts'
import type { RolloutTold } from '../rollout/rollout.ts'
import type { Entry, Who } from './entry.ts'
import { mostOfMachine } from './rows.ts'

/** What the server tells of a generation. */
const happened: Record<Told['kind'], string> = {
  good: 'is good',
  bad: 'is bad',
  'taken back': 'is in trial again',
  'attempt failed': 'has not come up',
  'attempt void': 'was cut off, which does not count',
  alarm: 'was good, and has not come up now',
  'other system': 'does not run',
  stays: 'stays, because no generation is good',
  'default refused': 'is the image of this server, but was bad on this machine',
  'state back': 'boots with earlier files',
  'no snapshot': 'is tried without a snapshot of the files from before',
}

/** `freed 1.2 GiB` */
export function saysFreed({ freedBytes, mayShareBlocks }: Freed): string {
  return `freed ${mayShareBlocks ? 'up to ' : ''}${formatBytes(freedBytes)}`
}

type Freed = Pick<Extract<Entry, { kind: 'freed' }>, 'freedBytes' | 'mayShareBlocks'>

/** `generation 2 is good: the machine was up, and stayed up` */
export function saysOfTold({ kind, generation, reason }: Omit<Told, 'machine'>): string {
  const why = reason === undefined ? '' : `: ${reason}`
  return `generation ${generation} ${happened[kind]}${why}`
}

/** `roll-out 3 of lab begins wave 2: 3 machines` */
export function saysOfRollout({
  rollout,
  group,
  says,
}: Pick<RolloutTold, 'rollout' | 'group' | 'says'>): string {
  return `${rolloutSaid({ rollout, group })} ${says}`
}

/** @param shown the machine as people know it, by its name or hardware address */
export function saysWho(who: Who, shown: string | undefined): string {
  switch (who.kind) {
    case 'server':
      return 'the server'
    case 'machine':
      return `${shown ?? 'a machine'} itself`
    case 'person': {
      const { uid, name = `uid ${uid}`, sudo } = who
      if (sudo === undefined) return name
      return uid === 0 ? `${sudo.user} by sudo` : `${sudo.user} by sudo as ${name}`
    }
  }
}

/** The sentence without who did it and with which machine. May contain control characters. */
export function saysWhat(entry: Entry, who: Who): string {
  switch (entry.kind) {
    case 'assigned': {
      const image = imageSaid(entry.image, entry.imageName)
      const of = who.kind === 'server' ? 'its own image' : 'image'
      return `assigned ${of} ${image} ${becomes(entry)}`
    }
    case 'published':
      return `published ${entry.toplevel} ${becomes(entry)}`
    case 'refused':
      return `published ${entry.toplevel ?? 'something'}, which was refused: ${entry.reason}`
    case 'rolled back': {
      const { state } = entry
      const files =
        state === undefined
          ? ''
          : ` with its files from the snapshot ${state.snapshot}, and its files until then become the snapshot ${state.leftAs}`
      return `rolled back to generation ${entry.generation}${files}${beforeThat(entry)}`
    }
    case 'named':
      return `gave it the name ${entry.newName}${entry.before === undefined ? '' : `; before: ${entry.before}`}`
    case 'added':
    case 'repaired':
      return `${entry.kind} image ${imageSaid(entry.image, entry.imageName)}`
    case 'removed': {
      const images = entry.images.map((id) => imageSaid(id, undefined)).join(', ')
      return `removed ${entry.images.length === 1 ? 'image' : 'images'} ${images}${entry.more === undefined ? '' : ` and ${entry.more} more`}`
    }
    case 'freed':
      return `removed ${plural(entry.storePaths, 'store path')}, ${saysFreed(entry)}`
    case 'rollout':
      return saysOfRollout(entry)
    case 'begun': {
      const { plan, replaces } = entry
      const before = replaces === undefined ? '' : `; before: roll-out ${replaces}`
      return `began ${rolloutSaid(entry)} by plan ${plan.slice(0, shownDigits)}: image ${imageSaid(entry.image, entry.imageName)}${before}`
    }
    case 'paused':
    case 'resumed':
    case 'aborted': {
      const why = entry.reason === undefined ? '' : `: ${entry.reason}`
      return `${entry.kind} ${rolloutSaid(entry)}${why}`
    }
    case 'held':
      return 'held it: roll-outs leave it out'
    case 'released':
      return 'released it: roll-outs do not leave it out any more'
    case 'regrouped': {
      const { from, to } = entry
      return to === undefined
        ? `took it out of group ${from}`
        : `moved it from group ${from} to ${to}`
    }
    case 'host key':
      return `made its SSH host key ${entry.fingerprint}`
    case 'declared':
      return `applied what the file says of it: ${saysDeclaration(entry.declared)}`
    case 'too many':
      return `the machine caused ${mostOfMachine} rows within a day, so what follows of it is not in the log until a day has passed`
    default: {
      if (who.kind !== 'person') return saysOfTold(entry)
      const next = entry.next === undefined ? '' : `; generation ${entry.next} boots next`
      return `said that generation ${entry.generation} is ${entry.kind}${next}`
    }
  }
}

function imageSaid(id: string, name: string | undefined): string {
  const digits = id.slice(0, shownDigits)
  return name === undefined ? digits : `${digits} (${name})`
}

function rolloutSaid({ rollout, group }: { rollout: number; group: string }): string {
  return `roll-out ${rollout} of ${group}`
}

type Given = Extract<Entry, { kind: 'assigned' | 'published' }>

function becomes(given: Given): string {
  const { generation, result } = given
  if (result === 'same') return `again, as generation ${generation}`
  const what = result === 'new' ? 'as generation' : 'and so went back to generation'
  return `${what} ${generation}${beforeThat(given)}`
}

function beforeThat({ before }: { before?: number }): string {
  return before === undefined ? '' : `; before: generation ${before}`
}
