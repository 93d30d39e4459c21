/** Finds the group of a site that a person names, and opens the site to change it. */
import { NetimageError } from '../errors.ts'
import { isMachine } from '../site/find-machine.ts'
import type { Entry } from '../site/log/entry.ts'
import type { Rollout } from '../site/rollout/rollout.ts'
import { newestOf, type SiteRollouts } from '../site/rollout/statements.ts'
import { groupsIn } from '../site/rollout/status.ts'
import { BrokenRow } from '../site/rows.ts'
import type { SiteWriter } from '../site/statements.ts'
import type { OpenedState } from './open-state.ts'

/** A group of a site that is open to be changed, beside a running server. */
export interface GroupOfSite {
  /** The state directory. */
  state: string
  /** The changes and their rows in the log are on the disk when this resolves, or none of them. */
  change: <T>(action: (writer: SiteWriter, rollout: Rollout, note: NoteOf) => T) => Promise<T>
  /** The roll-out as it is before the change. */
  rollout: Rollout
  /** Machines with a broken row are left out. */
  lives: (machines: readonly string[]) => ReturnType<SiteWriter['of']>[]
}

export type NoteOf = (entry: Entry, machine?: string) => void

/** @throws `NetimageError` `unknown-group`, `bad-state` */
export async function withGroup<T>(
  { state, person }: OpenedState,
  group: string,
  use: (found: GroupOfSite) => Promise<T>,
): Promise<T> {
  const { changeSite } = await import('../site/change-site.ts')
  return await changeSite(state, ({ read, change }) =>
    use({
      ...{ state, rollout: rolloutOf(read.rollouts(), group) },
      lives: (machines) => machines.flatMap((machine) => ifWhole(() => read.lifeOf(machine))),
      change: (action) =>
        change((writer) =>
          action(writer, rolloutOf(writer.rollouts.read(), group), (entry, machine) =>
            writer.note({ at: Date.now(), machine, who: person, entry }),
          ),
        ),
    }),
  )
}

function ifWhole<T>(read: () => T): T[] {
  try {
    return [read()]
  } catch (error) {
    if (error instanceof BrokenRow) return []
    throw error
  }
}

/** The newest roll-out of the group. @throws `NetimageError` `unknown-group`, `bad-state` */
export function rolloutOf(rollouts: SiteRollouts, group: string): Rollout {
  const found = groupsIn(rollouts).has(group) ? newestOf(rollouts, group) : undefined
  if (found) return found
  const groups = [...groupsIn(rollouts)].toSorted().join(', ')
  throw new NetimageError('unknown-group', `the site has no group ${group}`, {
    details: { actual: group },
    hint:
      groups === ''
        ? 'A site gets its groups from its file: netimage site apply.'
        : `Its groups are: ${groups}.`,
  })
}

/**
 * Whether the name is that of a group, for commands that take a group or a machine.
 *
 * @throws `NetimageError` `bad-usage` if it is both
 */
export function isGroup(
  rollouts: SiteRollouts,
  names: ReadonlyMap<string, string>,
  text: string,
): boolean {
  if (!groupsIn(rollouts).has(text)) return false
  if (!isMachine(names, text)) return true
  throw new NetimageError('bad-usage', `${text} is the name of a group and of a machine`, {
    details: { actual: text },
    hint: 'Give the hardware address of the machine. Or give the machine another name: netimage site name ADDRESS NAME.',
  })
}

/** As `isGroup`, in a site that nobody has opened yet. */
export async function namesGroup(state: string, text: string): Promise<boolean> {
  const { openSiteToRead } = await import('../site/database.ts')
  const site = openSiteToRead(state)
  try {
    return site !== undefined && isGroup(site.rollouts(), site.names(), text)
  } finally {
    site?.close()
  }
}
