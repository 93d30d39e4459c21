// The databases of a server on a disk whose blocks are smaller than the pages of SQLite's index of a log.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { mounted } from '../support/namespace.ts'
import { temporaryDirectory } from '../support/temporary.ts'

const run = promisify(execFile)

test('a server that was killed starts on a disk with small blocks and hardly any room', async () => {
  const disk = join(temporaryDirectory(), 'disk')
  mkdirSync(disk)
  const script = `
    mount -t tmpfs memory "$1"
    truncate -s 24M "$1/disk"
    mkfs.ext4 -q -m 0 -b 1024 "$1/disk" >&2
    mount -o loop "$1/disk" "$1"
  `
  const [command = '', ...args] = mounted(script, disk)
  const program = join(import.meta.dirname, 'support/small-blocks-program.ts')
  const { stdout } = await run(command, [...args, process.execPath, program, disk])
  assert.equal(stdout, 'as expected\n')
})
