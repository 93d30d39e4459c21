// The disk of a layer is full: operations that do not fit are refused until there is room again.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { mounted } from '../support/namespace.ts'
import { temporaryDirectory } from '../support/temporary.ts'

const support = join(import.meta.dirname, 'support')
const run = promisify(execFile)

test('on a full disk an operation is refused completely: none is lost or half done', async () => {
  const directory = temporaryDirectory()
  const [disk, tree] = [join(directory, 'disk'), join(directory, 'tree')]
  for (const made of [disk, tree]) mkdirSync(made)
  writeFileSync(join(tree, 'large'), Buffer.alloc(300_000, 'large'))
  const [command = '', ...args] = mounted('mount -t tmpfs -o size=8m disk "$1"', disk)
  const program = join(support, 'full-disk-program.ts')
  const { stdout } = await run(command, [...args, process.execPath, program, disk, tree])
  assert.match(stdout, /^refused \d{3,}\n$/)
})

for (const [way, what] of [
  ['new', 'the layer of a new machine cannot be opened until there is room'],
  ['old', 'a layer of format 1 is migrated with the room of its reserve'],
] as const) {
  test(`on a full disk ${what}`, async () => {
    const directory = temporaryDirectory()
    const [disk, trees] = [join(directory, 'disk'), join(directory, 'trees')]
    for (const made of [disk, trees]) mkdirSync(made)
    const [command = '', ...args] = mounted('mount -t tmpfs -o size=8m disk "$1"', disk)
    const program = join(support, 'full-opening-program.ts')
    const { stdout } = await run(command, [...args, process.execPath, program, disk, trees, way])
    assert.equal(stdout, 'opened\n')
  })
}
