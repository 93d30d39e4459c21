/** Lets the machines of a site boot what its file says. */
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { text as textOf } from 'node:stream/consumers'

import { errnoOf, exitStatus, fileSystemError, NetimageError } from '../errors.ts'
import { visibleLines } from '../printable.ts'
import type { Candidate } from '../site/life/life.ts'
import type { ReadPlan } from '../site/plan/read-plan.ts'
import type { Rollout } from '../site/rollout/rollout.ts'
import { commandThatBuilds } from './build.ts'
import { fileOption, stateOption } from './common-options.ts'
import { followRollouts } from './follow-rollouts.ts'
import { planSite, type PlanFlags, type PlannedSite } from './plan-site.ts'
import { printLine, runCommand, type Outcome, type Surroundings } from './run.ts'
import { showApplied } from './show-applied.ts'
import { showPlan } from './show-plan.ts'

/** The exit status if a roll-out halted, was aborted or was replaced while the command waited. */
const notDone = 3

export function applyCommand() {
  return describeApply().action(async (flags) => {
    let isApplied = false
    await runCommand(flags, async (around) => {
      const applied = await applyByFlags(flags, around)
      if ('text' in applied) return applied
      isApplied = true
      const { state, rollouts } = applied
      const isDone = await followRollouts(state, rollouts, { json: flags.json, around })
      process.exitCode = isDone ? 0 : notDone
      return undefined
    })
    // So that a script can tell what is missing from a roll-out that halted.
    if (flags.wait && !isApplied && process.exitCode === notDone) {
      process.exitCode = exitStatus.failed
    }
  })
}

/** Separate from the action, so that commander infers the type of the flags. */
function describeApply() {
  return commandThatBuilds('apply')
    .description('Let machines boot next what the file of the site says, group by group')
    .addOption(fileOption)
    .option('--plan <file>', 'apply only this plan: the output of site plan --json; - for stdin')
    .option('-y, --yes', 'do not ask')
    .option('--wait', 'wait until the roll-outs are done')
    .addOption(stateOption)
}

interface ApplyFlags extends PlanFlags {
  plan?: string | undefined
  yes?: true | undefined
  wait?: true | undefined
}

/** What `--wait` follows. */
interface ToFollow {
  state: string
  rollouts: readonly FollowedRollout[]
}

interface FollowedRollout {
  group: string
  number: number
}

async function applyByFlags(flags: ApplyFlags, around: Surroundings): Promise<Outcome | ToFollow> {
  const wanted = flags.plan === undefined ? undefined : await readGivenPlan(flags.plan)
  if (!wanted && !flags.yes) mustBeAbleToAsk(flags)
  // The images are held until the roll-outs have begun, so that nobody removes them meanwhile.
  using held = new DisposableStack()
  const planned = await planSite('to change', flags, around, held)
  const { plan, site } = planned
  if (wanted && wanted.digest !== plan.digest) {
    const { stalePlan } = await import('../site/plan/difference.ts')
    throw stalePlan(wanted, plan)
  }
  if (!flags.json) printLine(visibleLines(showPlan(plan)))
  const open = plan.groups.flatMap(({ name, rollout }) =>
    rollout ? [{ group: name, number: rollout.number }] : [],
  )
  const isNothing =
    plan.groups.every(({ begins }) => begins === undefined) &&
    [plan.names, plan.ends, plan.moves, plan.declarations].every((list) => list.length === 0)
  if (!isNothing && !wanted && !flags.yes && !(await isAgreed(around.signal))) {
    return { text: 'nothing was changed', json: {}, exitStatus: exitStatus.failed }
  }
  const begun = isNothing ? [] : await carryOut(planned)
  const shown = showApplied(plan, begun, site.state)
  if (!flags.wait) return { text: shown.text, json: shown.json }
  printLine(flags.json ? JSON.stringify(shown.json) : visibleLines(shown.text))
  const numbers = new Map(open.map(({ group, number }) => [group, number]))
  for (const { group, number } of begun) numbers.set(group, number)
  return {
    state: site.state,
    rollouts: [...numbers].map(([group, number]) => ({ group, number })),
  }
}

async function carryOut({ site, plan, images, decide }: PlannedSite): Promise<Rollout[]> {
  const { candidateOf } = await import('../site/candidate.ts')
  const { changeSite } = await import('../site/change-site.ts')
  const { stalePlan } = await import('../site/plan/difference.ts')
  const { factsOf } = await import('../site/plan/site-now.ts')
  const { applyPlan } = await import('../site/plan/apply-plan.ts')
  const candidates = new Map<string, Candidate>()
  for (const [group, { image }] of images) candidates.set(group, await candidateOf(image))
  return await changeSite(site.state, ({ change }) =>
    change((writer) => {
      const decided = decide(factsOf({ ...writer, rollouts: () => writer.rollouts.read() }))
      if (decided.digest !== plan.digest) throw stalePlan(plan, decided)
      const now = { at: Date.now(), uptime: writer.uptime() }
      return applyPlan(writer, decided, candidates, site.person, now)
    }),
  )
}

async function readGivenPlan(file: string): Promise<ReadPlan> {
  const { readPlan } = await import('../site/plan/read-plan.ts')
  if (file === '-') return readPlan(await textOf(process.stdin), 'the standard input')
  try {
    return readPlan(readFileSync(file, 'utf8'), file)
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') {
      throw new NetimageError('path-not-found', `there is no plan ${file}`, {
        details: { file },
        hint: 'Make one: netimage site plan --json > plan.json.',
      })
    }
    throw fileSystemError(`could not read the plan ${file}`, error, { details: { file } })
  }
}

function mustBeAbleToAsk({ json }: ApplyFlags): void {
  if (process.stdin.isTTY && process.stdout.isTTY && !json) return
  throw new NetimageError('bad-usage', 'nobody can be asked whether to apply the plan', {
    hint: 'Give --yes; or make a plan, look at it, and apply that: netimage site plan --json > plan.json, then netimage site apply --plan plan.json.',
  })
}

/** Nothing but a yes counts as one. */
async function isAgreed(signal: AbortSignal): Promise<boolean> {
  // Without `terminal`, Ctrl-C reaches the program.
  const lines = createInterface({ input: process.stdin, terminal: false })
  process.stderr.write('Apply this plan? [y/N] ')
  try {
    const said = once(lines, 'line', { signal }).then(([line]) => String(line))
    const ended = once(lines, 'close', { signal }).then(() => '')
    return /^y(es)?$/i.test((await Promise.race([said, ended])).trim())
  } finally {
    lines.close()
  }
}
