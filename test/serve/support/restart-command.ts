// The commands that restart the machines of a fleet. No program runs: the server tells its parent instead.

import * as v from 'valibot'
import type { RestartCommands } from '../../../src/site/rollout/rollout.ts'

export const restartProgram = 'restart-in-test'

export function restartCommands(machine: string): RestartCommands {
  return {
    reboot: [restartProgram, 'reboot', machine],
    power: [restartProgram, 'power', machine],
  }
}

/** What the server tells when it would run such a command. */
export const restartToldSchema = v.object({
  restart: v.tuple([v.picklist(['reboot', 'power']), v.string()]),
})
