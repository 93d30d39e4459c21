// `netimage serve` is started again while the disk of its state directory is full to the last byte.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { promisify } from 'node:util'
import { mounted } from '../support/namespace.ts'
import { servedWorkspace } from './support/served-workspace.ts'

const program = join(import.meta.dirname, 'support/full-disk-program.ts')
const run = promisify(execFile)

const { workspace, image } = await servedWorkspace('serve-full')

suite('on a full disk, netimage serve', () => {
  for (const [way, what] of [
    ['SIGTERM', 'boots a machine with a good generation, and records again once there is room'],
    ['SIGKILL', 'does so, too, if the server before was killed'],
    ['new', 'says what to do if there is no state yet'],
  ] as const) {
    test(what, async () => {
      const disk = workspace.path(`disk-${way}`)
      mkdirSync(disk)
      const [command = '', ...args] = mounted('mount -t tmpfs -o size=16m disk "$1"', disk)
      const { stdout } = await run(command, [...args, process.execPath, program, disk, image, way])
      assert.equal(stdout, 'as expected\n')
    })
  }
})
