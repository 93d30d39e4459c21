// Commands that change a site, and are killed.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'

const program = join(import.meta.dirname, 'killed-command-program.ts')

export interface KilledCommand {
  /** Without `--state`. */
  command: readonly string[]
  cwd?: string
  /** @returns a state directory in which the command has done nothing yet */
  prepare: () => string
  /** Asserts that the command has done all or nothing. @returns whether it has done all */
  isDone: (state: string, when: string) => boolean
}

/** Runs the command killed before its first step, killed before its second step…, until it comes to its end. */
export function killAtEachStep({ command, cwd, prepare, isDone }: KilledCommand): void {
  const afterKills: boolean[] = []
  for (let steps = 0; ; steps++) {
    const state = prepare()
    const args = [program, `${steps}`, ...command, '--state', state]
    const run = spawnSync(process.execPath, args, { encoding: 'utf8', ...(cwd && { cwd }) })
    const { signal, status, stderr } = run
    const isAll = isDone(state, `killed before step ${steps}`)
    if (signal === null) {
      assert.deepEqual([status, isAll], [0, true], stderr)
      break
    }
    assert.equal(signal, 'SIGKILL')
    afterKills.push(isAll)
  }
  // It was killed before the change and after it.
  assert.deepEqual([...new Set(afterKills)], [false, true])
}
