/** The commands with which people direct roll-outs. */
import { Command } from '@commander-js/extra-typings'

import { NetimageError } from '../errors.ts'
import { saysBad } from '../site/rollout/halt.ts'
import { pause, resume, type NotNow } from '../site/rollout/pause-resume.ts'
import type { Rollout } from '../site/rollout/rollout.ts'
import { abortRollout, standsIn } from '../site/rollout/rollouts.ts'
import type { SiteWriter } from '../site/statements.ts'
import { jsonOption, machineArgument, stateOption } from './common-options.ts'
import { formatTime } from './format.ts'
import { openStateToChange } from './open-state.ts'
import { runCommand, type Outcome } from './run.ts'
import { withGroup } from './site-group.ts'
import { withMachine } from './site-machine.ts'

type Order = 'paused' | 'resumed' | 'aborted'

export const pauseCommand = () =>
  orderCommand('pause', 'paused', 'Give the image of a group to no further machine')
export const resumeCommand = () =>
  orderCommand('resume', 'resumed', 'Go on with the roll-out of a group that is paused or halted')
export const abortCommand = () =>
  orderCommand(
    'abort',
    'aborted',
    'End the roll-out of a group; untried machines keep what they had',
  )

function orderCommand(name: string, order: Order, description: string) {
  return new Command(name)
    .description(description)
    .argument('<group>', 'a group of the site')
    .addOption(stateOption)
    .option(...jsonOption)
    .action((group, flags) =>
      runCommand(flags, async () => {
        const opened = await openStateToChange(flags.state)
        return await withGroup(opened, group, ({ change }) =>
          change((writer, rollout, note) => {
            const { number } = rollout
            follow(writer, rollout, order)
            note({ kind: order, rollout: number, group })
            return said(rollout, order)
          }),
        )
      }),
    )
}

/** @throws `NetimageError` `bad-rollout` */
function follow(writer: SiteWriter, rollout: Rollout, order: Order): void {
  const now = { at: Date.now(), uptime: writer.uptime() }
  const names = writer.names()
  switch (order) {
    case 'paused':
      return writer.rollouts.keep(allowed(rollout, pause(rollout), names))
    case 'resumed': {
      const stands = standsIn(writer, writer.rollouts.read(), rollout, now)
      return writer.rollouts.keep(allowed(rollout, resume(rollout, stands), names))
    }
    case 'aborted':
      allowed(rollout, abortRollout(writer, rollout, 'a person aborted it', now), names)
  }
}

const follows: Record<Order, string> = {
  paused: 'no further machine is given the image or restarted; go on with: netimage site resume',
  resumed: 'it goes on while a server runs; see: netimage site status',
  aborted:
    'machines that have not tried the image boot what they booted before; to take it from the others as well: netimage site rollback',
}

function said({ number, group }: Rollout, order: Order): Outcome {
  return {
    text: `roll-out ${number} of ${group} is ${order}: ${follows[order]} ${group}`,
    json: { group, rollout: number, is: order },
  }
}

function allowed(
  rollout: Rollout,
  ordered: Rollout | NotNow,
  names: ReadonlyMap<string, string>,
): Rollout {
  if (!('why' in ordered)) return ordered
  const { number, group, state } = rollout
  const why = ordered.bad ? `${ordered.why}: ${saysBad(ordered.bad, names)}` : ordered.why
  throw new NetimageError('bad-rollout', `roll-out ${number} of ${group} ${why}`, {
    details: { actual: state },
    hint:
      state === 'halted'
        ? `Hold the bad machines (netimage site hold MACHINE), or say that it is good on them (netimage site good MACHINE), and try again. Or abort it: netimage site abort ${group}.`
        : `Look at it: netimage site status ${group}.`,
  })
}

export function holdCommand() {
  return new Command('hold')
    .description('Let roll-outs leave a machine out until it is released')
    .argument(...machineArgument)
    .addOption(stateOption)
    .option(...jsonOption)
    .action((named, flags) =>
      runCommand(flags, () =>
        withMachine(flags.state, named, ({ machine, by, change }) =>
          change((writer) => {
            const held = writer.rollouts.read().holds.get(machine)
            const json = { machine, isHeld: true }
            if (held) {
              const text = `${machine} is held already, since ${formatTime(held.at)}, by ${held.by}`
              return { outcome: { text, json } }
            }
            writer.rollouts.hold(machine, { at: Date.now(), by })
            const text = `${machine} is held: roll-outs leave it out, until netimage site release ${machine}`
            return { entry: { kind: 'held' }, outcome: { text, json } }
          }),
        ),
      ),
    )
}

/** Of a machine that is not held. */
function saysWhatItGets(writer: SiteWriter, machine: string): string {
  const read = writer.rollouts.read()
  const rollout = read.newest.find(({ group }) => group === read.groups.get(machine))
  const now = { at: Date.now(), uptime: writer.uptime() }
  if (!rollout || standsIn(writer, read, rollout, now).get(machine) !== 'bad') {
    return 'it gets the image of its group'
  }
  const number = rollout.machines[machine]?.given?.generation
  return `the image of its group is bad on it as generation ${number}, so it gets it again only if you say: netimage site good ${machine} ${number}`
}

export function releaseCommand() {
  return new Command('release')
    .description('Let roll-outs not leave a machine out any more')
    .argument(...machineArgument)
    .addOption(stateOption)
    .option(...jsonOption)
    .action((named, flags) =>
      runCommand(flags, () =>
        withMachine(flags.state, named, ({ machine, change }) =>
          change((writer) => {
            const json = { machine, isHeld: false }
            if (!writer.rollouts.release(machine)) {
              return { outcome: { text: `${machine} was not held`, json } }
            }
            const text = `${machine} is released: ${saysWhatItGets(writer, machine)}`
            return { entry: { kind: 'released' }, outcome: { text, json } }
          }),
        ),
      ),
    )
}
