// `netimage serve` is started again while the disk of its state directory is full to the last byte.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { promisify } from 'node:util'
import { mounted } from '../support/namespace.ts'
import { makeWorkspace, type Workspace } from '../support/workspace.ts'
import { buildServedImage } from './support/served-image.ts'

const program = join(import.meta.dirname, 'support/full-disk-program.ts')
const run = promisify(execFile)

suite('on a full disk, netimage serve', () => {
  let workspace: Workspace
  let image: string
  before(async () => {
    workspace = makeWorkspace('serve-full')
    image = await buildServedImage(workspace, '127.0.0.1:/srv/test,v3')
  })
  after(() => workspace.remove())

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
