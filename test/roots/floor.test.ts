// One machine fills the disk of the server. Its writes are refused; the server and others go on.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { mounted } from '../support/namespace.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'

const program = join(import.meta.dirname, 'support/floor-program.ts')
const freshName = freshNames(temporaryDirectory())

const ways = {
  'bytes of a log': { way: 'log', options: 'size=32m' },
  'a large file of the image': { way: 'copy', options: 'size=32m' },
  'small files': { way: 'files', options: 'size=64m,nr_inodes=2000' },
}

for (const [what, { way, options }] of Object.entries(ways)) {
  test(`a machine that fills the disk with ${what} leaves room for leases, boots and others`, async () => {
    const [disk, tree] = [freshName(), freshName()]
    for (const made of [disk, tree]) mkdirSync(made)
    writeFileSync(join(tree, 'large'), Buffer.alloc(4 * 2 ** 20, 'large'))
    const script = `mount -t tmpfs -o ${options} disk "$1"`
    const [command = '', ...args] = mounted(script, disk)
    const run = promisify(execFile)
    const { stdout } = await run(command, [...args, process.execPath, program, disk, tree, way])
    assert.equal(stdout, 'went on\n')
  })
}
