// The log of a site whose disk is full.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { mounted } from '../../support/namespace.ts'
import { temporaryDirectory } from '../../support/temporary.ts'

const run = promisify(execFile)

test('a full disk keeps a change and its row away, and a garbage collection writes its row afterwards', async () => {
  const disk = join(temporaryDirectory(), 'disk')
  mkdirSync(disk)
  const [command = '', ...args] = mounted('mount -t tmpfs -o size=2m disk "$1"', disk)
  const program = join(import.meta.dirname, '../support/full-disk-log-program.ts')
  const { stdout } = await run(command, [...args, process.execPath, program, disk])
  assert.equal(stdout, 'as expected\n')
})
