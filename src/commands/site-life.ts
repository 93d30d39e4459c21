/** The commands that choose what a machine boots. */
import { Command, InvalidArgumentError } from '@commander-js/extra-typings'

import { NetimageError } from '../errors.ts'
import { assign, decide, type Assigned, type NoWayBack } from '../site/life/choose.ts'
import { generationOf, type Generation, type Life } from '../site/life/life.ts'
import { giveName } from '../site/give-name.ts'
import { givenOf } from '../site/log/entry.ts'
import { isMachineName } from '../site/machine-name.ts'
import { noteBadOn } from '../site/rollout/rollouts.ts'
import type { SiteWriter } from '../site/statements.ts'
import { shownGeneration } from '../site/status.ts'
import { mustBeBootable } from './bootable.ts'
import { jsonOption, machineArgument, stateOption } from './common-options.ts'
import { openStateToChange, type OpenedState } from './open-state.ts'
import { runCommand, type Outcome } from './run.ts'
import { withMachine, withMachineOf, type Change } from './site-machine.ts'
import { findWayBack } from './way-back.ts'

export function assignCommand() {
  return new Command('assign')
    .description('Let a machine boot an image of the site next, in trial')
    .argument(...machineArgument)
    .argument('<image>', 'the beginning of the id of an image, or its name')
    .addOption(stateOption)
    .option(...jsonOption)
    .action((named, image, flags) =>
      runCommand(flags, async () => {
        const { chooseSiteImage } = await import('../site/images/choose-image.ts')
        const { openSiteImage } = await import('../site/images/site-image.ts')
        const { candidateOf } = await import('../site/candidate.ts')
        return await withMachine(flags.state, named, async ({ state, machine, change }) => {
          // The image is held until it is assigned, so that nobody removes it meanwhile.
          const found = await openSiteImage(state, chooseSiteImage(state, image).id)
          try {
            const candidate = await candidateOf(found)
            return await change((writer) => {
              const now = { at: Date.now(), uptime: writer.uptime() }
              const life = writer.of(machine)
              const assigned = assign(life, candidate, now, 'person')
              if ('refused' in assigned) throw wasBad(machine, assigned.refused)
              writer.keep(assigned.life)
              const { generation, result } = assigned
              const imageName = found.manifest.options.rootDirectoryName
              const given = givenOf({ generation, result, before: life.current })
              return {
                entry: { kind: 'assigned', ...given, imageName },
                outcome: outcome(assigned.life, generation, saysAssigned[result]),
              }
            })
          } finally {
            found.release()
          }
        })
      }),
    )
}

export function rollbackCommand() {
  return new Command('rollback')
    .description('Let a machine, or all of a group, boot the last good generation next')
    .argument('<group|machine>', 'a group, a hardware address, an IP address, or a name')
    .option('--to <number>', 'boot this good generation instead', parseNumber)
    .option('--with-state', 'also put its files back to those before it left that generation')
    .addOption(stateOption)
    .option(...jsonOption)
    .action((machine, flags) =>
      runCommand(flags, async () => {
        const { findStateBefore } = await import('./state-before.ts')
        const { namesGroup } = await import('./site-group.ts')
        const opened = await openStateToChange(flags.state)
        if (await namesGroup(opened.state, machine)) {
          if (flags.to !== undefined || flags.withState) throw onlyForMachine(machine)
          const { rollBackGroup } = await import('./roll-back-group.ts')
          return await rollBackGroup(opened, machine)
        }
        return await changeGenerations(opened, machine, (writer, machine, state) => {
          const before = writer.of(machine)
          const back = findWayBack(state, before, flags.to)
          if (typeof back === 'string') throw noWayBack(before, back, flags.to)
          const { life, generation, entry } = back
          if (!flags.withState) {
            writer.keep(life)
            return { entry, outcome: outcome(life, generation, 'boots next') }
          }
          const found = findStateBefore(state, life, generation)
          writer.keep(found.life)
          const { text, json } = outcome(found.life, generation, 'boots next')
          return {
            entry: { ...entry, state: found.json },
            outcome: {
              text: `${text}\n${machine}: ${found.says}`,
              json: { ...json, ...found.json },
            },
          }
        })
      }),
    )
}

function onlyForMachine(group: string): NetimageError {
  return new NetimageError(
    'bad-usage',
    `${group} is a group, and --to and --with-state are for one machine`,
    {
      details: { actual: group },
      hint: 'Name a machine. Or leave the option out: each machine goes back to its last good generation.',
    },
  )
}

export const goodCommand = () => verdictCommand('good')
export const badCommand = () => verdictCommand('bad')

function verdictCommand(verdict: 'good' | 'bad') {
  return new Command(verdict)
    .description(`Say that a generation of a machine is ${verdict}`)
    .argument(...machineArgument)
    .argument('[number]', 'default: the generation that the machine boots next', parseNumber)
    .addOption(stateOption)
    .option(...jsonOption)
    .action((machine, number, flags) =>
      runCommand(flags, async () => {
        const opened = await openStateToChange(flags.state)
        return await changeGenerations(opened, machine, (writer, machine, state) => {
          if (verdict === 'good') noteBadOn(writer, machine)
          const decided = decide(writer.of(machine), number, verdict)
          if (!decided) throw noGeneration(machine, number)
          const { life, generation } = decided
          const isLastGood = verdict === 'good' && life.lastGood === generation.number
          if (isLastGood) mustBeBootable(state, life, generation)
          writer.keep(life)
          const { current: next } = life
          return {
            entry: {
              ...{ kind: verdict, generation: generation.number },
              ...(next !== undefined && { next }),
            },
            outcome: outcome(life, generation, `is ${verdict}`),
          }
        })
      }),
    )
}

export function nameCommand() {
  return new Command('name')
    .description('Give a machine a name')
    .argument(...machineArgument)
    .argument('<name>', 'a host name without dots')
    .addOption(stateOption)
    .option(...jsonOption)
    .action((named, text, flags) =>
      runCommand(flags, () => {
        const name = text.toLowerCase()
        if (!isMachineName(name)) {
          throw new NetimageError('bad-option', `${text} cannot be the name of a machine`, {
            details: { field: 'name', actual: text },
            hint: 'Use letters, digits and dashes, 63 at most, and no dash at the beginning or the end.',
          })
        }
        return withMachine(flags.state, named, ({ machine, change }) =>
          change((writer) => {
            for (const [other, taken] of writer.names()) {
              if (taken === name && other !== machine) throw nameIsTaken(name, other)
            }
            return {
              entry: giveName(writer, machine, name),
              outcome: { text: `${machine} is called ${name}`, json: { machine, name } },
            }
          }),
        )
      }),
    )
}

/** Meanwhile nobody removes an image of the machine's generations. */
async function changeGenerations(
  opened: OpenedState,
  text: string,
  action: (writer: SiteWriter, machine: string, state: string) => Change<Outcome>,
): Promise<Outcome> {
  const { holdGenerations } = await import('./hold-generations.ts')
  return await withMachineOf(opened, text, async ({ state, machine, life, change }) => {
    using held = new DisposableStack()
    await holdGenerations(state, life, held)
    return await change((writer) => action(writer, machine, state))
  })
}

function parseNumber(text: string): number {
  const number = Number(text)
  if (Number.isSafeInteger(number) && number > 0) return number
  throw new InvalidArgumentError('Give the number of a generation: 1 or more.')
}

const saysAssigned: Record<Assigned['result'], string> = {
  new: 'boots next, in trial',
  back: 'boots next: this image is its last good generation',
  same: 'boots next, as before',
}

function outcome(life: Life, generation: Generation, says: string): Outcome {
  const { machine, current, lastGood } = life
  const lines = [`${machine}: generation ${generation.number} ${says}`]
  const next = generationOf(life, current)
  if (next && next.number !== generation.number) {
    lines.push(`${machine}: generation ${next.number} boots next`)
  } else if (next?.verdict === 'bad') {
    lines.push(`${machine}: it boots generation ${next.number} all the same: it has no good one`)
  }
  return {
    text: lines.join('\n'),
    json: { machine, generation: shownGeneration(generation), next: current, lastGood },
  }
}

function wasBad(machine: string, { number, reason }: Generation): NetimageError {
  const why = reason === undefined ? '' : `: ${reason}`
  return new NetimageError(
    'bad-generation',
    `${machine} has had this image as generation ${number}, which was bad${why}`,
    {
      details: { actual: number },
      hint: `If it is good after all, say so first: netimage site good ${machine} ${number}.`,
    },
  )
}

function noWayBack(life: Life, why: NoWayBack, to: number | undefined): NetimageError {
  const { machine } = life
  if (why === 'unknown generation') return noGeneration(machine, to)
  const target = generationOf(life, to)
  if (why === 'not good' && target) {
    return new NetimageError(
      'bad-generation',
      `generation ${target.number} of ${machine} has not been good`,
      {
        details: { actual: target.number },
        hint: hintOfNotGood(life, target),
      },
    )
  }
  return new NetimageError('bad-generation', `${machine} has no good generation to go back to`, {
    hint: `Look at its generations: netimage site status ${machine}.`,
  })
}

function hintOfNotGood({ machine, current }: Life, generation: Generation): string {
  const { number, verdict, image, published, isGone } = generation
  if (isGone) {
    return `The machine does not have its system any more. Build it again, on the machine: nixos-rebuild boot.`
  }
  const isGood = `If it is good, say so first: netimage site good ${machine} ${number}.`
  if (verdict === 'bad') return isGood
  if (current === number) return `The machine boots it next already, in trial. ${isGood}`
  const again =
    published === undefined
      ? `netimage site assign ${machine} ${image}`
      : 'nixos-rebuild boot on the machine'
  return `Start another trial of it: ${again}. ${isGood}`
}

function noGeneration(machine: string, number: number | undefined): NetimageError {
  const what = number === undefined ? 'no generation yet' : `no generation ${number}`
  return new NetimageError('bad-generation', `${machine} has ${what}`, {
    details: { ...(number !== undefined && { actual: number }) },
    hint: `Look at its generations: netimage site status ${machine}.`,
  })
}

function nameIsTaken(name: string, machine: string): NetimageError {
  return new NetimageError('bad-option', `the machine ${machine} has the name ${name} already`, {
    details: { field: 'name', actual: name },
    hint: 'Choose another name. Or give that machine another name first.',
  })
}
