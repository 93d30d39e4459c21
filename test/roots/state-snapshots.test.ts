// The snapshots that the server takes, on a disk that can clone files and on one that cannot.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { promisify } from 'node:util'
import { onCloningDisk } from '../support/cloning-disk.ts'
import { mounted } from '../support/namespace.ts'
import { temporaryDirectory } from '../support/temporary.ts'

const run = promisify(execFile)

suite('the snapshot before a trial', () => {
  /** @returns what the program says */
  async function on(disk: (directory: string) => string[], ...how: string[]): Promise<string> {
    const directory = join(temporaryDirectory(), 'disk')
    mkdirSync(directory)
    const [command = '', ...args] = disk(directory)
    const program = join(import.meta.dirname, 'support/state-snapshots-program.ts')
    const { stdout } = await run(command, [...args, process.execPath, program, directory, ...how])
    return stdout
  }

  test('is whole or not there after a kill, and going back to it loses nothing', async () => {
    assert.equal(await on(onCloningDisk), 'whole\n')
  })

  test('is not taken if the file system cannot clone, or after the first attempt', async () => {
    const memory = (directory: string) => mounted('mount -t tmpfs memory "$1"', directory)
    assert.equal(await on(memory, 'without'), 'cannot clone\n')
  })
})
