// The server is killed while it makes boot files, or its disk is full.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdirSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { openPublished } from '../../../src/site/publish/published.ts'
import { mounted } from '../../support/namespace.ts'
import { freshNames, temporaryDirectory } from '../../support/temporary.ts'
import { assertSameLines, describeTree } from '../../support/trees.ts'

const freshName = freshNames(temporaryDirectory())
const program = join(import.meta.dirname, '../support/publish-program.ts')
const run = promisify(execFile)

async function publishIn(directory: string, killedAt: number, prefix: string[] = [], bytes = 5000) {
  const root = freshName()
  mkdirSync(root)
  const [command = '', ...args] = [
    ...prefix,
    ...[process.execPath, program, root, directory, `${killedAt}`, `${bytes}`],
  ]
  const { stdout } = await run(command, args)
  const [operations = '', result = ''] = stdout.trim().split(' ')
  return { operations: Number(operations), result }
}

test('if the server is killed, the boot files are whole or not there', async () => {
  const [whole, directory] = [freshName(), freshName()]
  for (const each of [whole, directory]) mkdirSync(each)
  const { operations, result: id } = await publishIn(whole, 0)
  const expected = describeTree(join(whole, id), { times: false })
  // Around the rename at the end, and some operations before.
  const early = [2, Math.floor(operations / 2)]
  for (const killedAt of [...early, operations - 2, operations - 1, operations]) {
    await assert.rejects(publishIn(directory, killedAt), { signal: 'SIGKILL' })
    for (const name of readdirSync(directory)) {
      if (name === 'unfinished') continue
      assert.equal(name, id)
      assertSameLines(describeTree(join(directory, id), { times: false }), expected)
    }
  }
  await publishIn(directory, 0)
  assert.deepEqual(readdirSync(directory), [id])
  assert.deepEqual((await openPublished(directory, id)).id, id)
})

test('if the disk is full, the reason is told and nothing is left', async () => {
  const disk = freshName()
  mkdirSync(disk)
  const files = join(disk, 'published')
  // The disk is only in the namespace of the program.
  const prefix = [
    ...mounted('mount -t tmpfs -o size=1m disk "$1"', disk),
    ...['sh', '-c', '"$@" && ls "$0"', files],
  ]
  const { result } = await publishIn(files, 0, prefix, 2_000_000)
  assert.equal(result, 'disk-full')
})
