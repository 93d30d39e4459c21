/** Lets all machines of a group go back from the image of its newest roll-out. */
import { NetimageError } from '../errors.ts'
import { generationOf, isWanted, wantedOf, type Life } from '../site/life/life.ts'
import { BrokenRow } from '../site/rows.ts'
import type { Rollout } from '../site/rollout/rollout.ts'
import { abortRollout } from '../site/rollout/rollouts.ts'
import type { SiteWriter } from '../site/statements.ts'
import { holdGenerations } from './hold-generations.ts'
import type { OpenedState } from './open-state.ts'
import type { Outcome } from './run.ts'
import { withGroup, type NoteOf } from './site-group.ts'
import { findWayBack } from './way-back.ts'

interface Back {
  machine: string
  /** The generation that it boots next. */
  generation: number
}

interface Stays {
  machine: string
  why: string
}

/** @throws `NetimageError` `unknown-group` */
export async function rollBackGroup(opened: OpenedState, group: string): Promise<Outcome> {
  return await withGroup(opened, group, async ({ state, rollout, lives, change }) => {
    using held = new DisposableStack()
    // Meanwhile nobody removes an image to which a machine goes back.
    for (const life of lives(Object.keys(rollout.machines))) {
      await holdGenerations(state, life, held)
    }
    return await change((writer, rollout, note) => {
      const now = { at: Date.now(), uptime: writer.uptime() }
      const aborted = abortRollout(writer, rollout, 'a person rolled the group back', now)
      const isOpen = !('why' in aborted)
      if (isOpen) {
        note({ kind: 'aborted', rollout: rollout.number, group, reason: 'rolled back' })
      }
      return said(rollout, isOpen, goBack(state, writer, rollout, note))
    })
  })
}

interface Result {
  /** Machines that have not tried the image, and boot what they booted before. */
  back: Back[]
  stay: Stays[]
}

function goBack(state: string, writer: SiteWriter, rollout: Rollout, note: NoteOf): Result {
  const { holds, groups } = writer.rollouts.read()
  const [back, stay]: [Back[], Stays[]] = [[], []]
  for (const machine of Object.keys(rollout.machines)) {
    if (groups.get(machine) !== rollout.group) continue
    try {
      const life = writer.of(machine)
      const next = generationOf(life, life.current)
      if (!next || !isWanted(next, wantedOf(rollout.candidate))) continue
      if (holds.has(machine)) stay.push({ machine, why: 'it is held' })
      else back.push({ machine, generation: goBackOne(state, writer, life, note) })
    } catch (error) {
      const isAboutIt = error instanceof BrokenRow || isBadGeneration(error)
      if (!isAboutIt) throw error
      stay.push({ machine, why: error.message })
    }
  }
  return { back, stay }
}

function isBadGeneration(error: unknown): error is NetimageError {
  return error instanceof NetimageError && error.code === 'bad-generation'
}

function goBackOne(state: string, writer: SiteWriter, before: Life, note: NoteOf): number {
  const back = findWayBack(state, before)
  if (typeof back === 'string') {
    throw new NetimageError('bad-generation', 'it has no other good generation')
  }
  writer.keep(back.life)
  note(back.entry, before.machine)
  return back.generation.number
}

function said({ number, group }: Rollout, isAborted: boolean, { back, stay }: Result): Outcome {
  const lines = [
    ...(isAborted
      ? [
          `roll-out ${number} of ${group} is aborted: machines that have not tried its image boot what they booted before`,
        ]
      : []),
    ...back.map(({ machine, generation }) => `${machine}: generation ${generation} boots next`),
    ...stay.map(({ machine, why }) => `${machine} stays with the image: ${why}`),
    ...(back.length === 0 && stay.length === 0
      ? [`no machine of ${group} boots its image next any more`]
      : []),
    ...(back.length > 0 ? ['nobody restarts them: restart each of them yourself'] : []),
  ]
  return { text: lines.join('\n'), json: { group, rollout: number, isAborted, back, stay } }
}
