// The state of a machine before a trial, and going back to it, with the machines of a server on a disk
// that can clone files.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { onCloningDisk } from '../support/cloning-disk.ts'
import { buildTo } from './support/served-image.ts'
import { servedWorkspace } from './support/served-workspace.ts'

const run = promisify(execFile)
const { workspace, image } = await servedWorkspace('states')

test('a machine goes back to the state from before a trial, and boots if there is no snapshot', async () => {
  const other = workspace.path('other')
  await buildTo(workspace, other, '--nfs-root', '127.0.0.1:/srv/other,v3')
  const disk = workspace.path('disk')
  mkdirSync(disk)
  const [command = '', ...args] = onCloningDisk(disk)
  const program = join(import.meta.dirname, 'support/states-program.ts')
  const { stdout } = await run(command, [...args, process.execPath, program, disk, image, other])
  assert.equal(stdout, 'done\n')
})
