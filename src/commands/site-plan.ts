import { exitStatus } from '../errors.ts'
import { commandThatBuilds } from './build.ts'
import { fileOption, stateOption } from './common-options.ts'
import { planSite } from './plan-site.ts'
import { runCommand } from './run.ts'
import { showPlan } from './show-plan.ts'

/** The exit status if machines are to boot something else. */
const somethingToDo = 2

export function planCommand() {
  return describePlan().action(async (flags) => {
    let isPlanned = false
    await runCommand(flags, async (around) => {
      using held = new DisposableStack()
      const { plan } = await planSite('to read', flags, around, held)
      isPlanned = true
      return { text: showPlan(plan), json: plan, exitStatus: plan.isDone ? 0 : somethingToDo }
    })
    // So that a script can tell mistakes in the file from something to do.
    if (!isPlanned && process.exitCode === somethingToDo) process.exitCode = exitStatus.failed
  })
}

/** Separate from the action, so that commander infers the type of the flags. */
function describePlan() {
  return commandThatBuilds('plan')
    .description('Show what has to change so that machines boot what the file of the site says')
    .addOption(fileOption)
    .addOption(stateOption)
}
