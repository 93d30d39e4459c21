/** Carries out what a plan has decided, in one transaction. */
import { refuseBroken } from '../declarations.ts'
import { giveName } from '../give-name.ts'
import type { Candidate, Now } from '../life/life.ts'
import type { Entry, Who } from '../log/entry.ts'
import { declarationsAfter } from './declared.ts'
import { groupsOf } from './decide.ts'
import type { Decided, DecidedGroup } from './planned.ts'
import { restartOf } from './planned-rollout.ts'
import type { SiteWriter } from '../statements.ts'
import { settingsOf, type RestartCommands, type Rollout } from '../rollout/rollout.ts'
import { abortRollout, beginRollout, takeBrokenBack } from '../rollout/rollouts.ts'

/**
 * @param candidates of all groups, by name
 * @param who applies the plan
 * @returns the roll-outs that have begun
 */
export function applyPlan(
  writer: SiteWriter,
  plan: Decided,
  candidates: ReadonlyMap<string, Candidate>,
  who: Who,
  now: Now,
): Rollout[] {
  const note = (entry: Entry, machine?: string) => writer.note({ at: now.at, machine, who, entry })
  for (const { machine, name } of plan.names) note(giveName(writer, machine, name), machine)
  if (plan.declarations.length > 0) {
    writer.setDeclarations(declarationsAfter(writer.declarations(refuseBroken), plan.declarations))
  }
  for (const { machine, declared } of plan.declarations) {
    note({ kind: 'declared', ...(declared && { declared }) }, machine)
  }
  for (const { group, rollout } of plan.ends) {
    const reason = 'the file of the site has no machine for it any more'
    const { newest, broken } = writer.rollouts.read()
    const ended = newest.find((each) => each.number === rollout)
    if (ended) abortRollout(writer, ended, reason, now)
    const endedBroken = broken.find((each) => each.number === rollout)
    if (endedBroken) takeBrokenBack(writer, endedBroken)
    note({ kind: 'aborted', rollout, group, reason })
  }
  const begun = plan.groups.flatMap((group) => {
    const candidate = candidates.get(group.name)
    if (group.begins === undefined || !candidate) return []
    const settings = { ...settingsOf(group), group: group.name, candidate }
    const rollout = beginRollout(writer, settings, restartsOf(group), now)
    note(begunEntry(group, rollout, plan.digest))
    return [rollout]
  })
  writer.rollouts.setGroups(groupsOf(plan.groups))
  for (const { machine, from, to } of plan.moves) {
    if (from === undefined) continue
    note({ kind: 'regrouped', from, ...(to !== undefined && { to }) }, machine)
  }
  return begun
}

function restartsOf({ machines }: DecidedGroup): Map<string, RestartCommands> {
  return new Map(
    machines.flatMap((machine) => {
      const restart = restartOf(machine)
      return restart ? [[machine.machine, restart] as const] : []
    }),
  )
}

function begunEntry({ image, rollout }: DecidedGroup, begun: Rollout, plan: string): Entry {
  const { number, group } = begun
  return {
    ...{ kind: 'begun', rollout: number, group, image: image.id, imageName: image.name, plan },
    ...(rollout && { replaces: rollout.number }),
  }
}
