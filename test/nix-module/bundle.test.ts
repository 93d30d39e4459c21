import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { repository } from '../support/netimage.ts'
import { runProgram } from '../support/real-nix.ts'
import { temporaryDirectory } from '../support/temporary.ts'

test('the bundled dependencies are the packages of the lock file, byte for byte', async () => {
  const directory = join(temporaryDirectory(), 'dependencies')
  const script = join(repository, 'scripts/bundle-dependencies.ts')
  await runProgram(process.execPath, [script, directory])
  const committed = join(repository, 'nix/dependencies')
  const files = (tree: string) =>
    readdirSync(tree, { recursive: true, encoding: 'utf8', withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(tree.length))
      .toSorted()
  assert.deepEqual(files(directory), files(committed), 'run scripts/bundle-dependencies.ts')
  for (const file of files(committed)) {
    const isSame = readFileSync(committed + file).equals(readFileSync(directory + file))
    assert.ok(isSame, `${file} is another: run scripts/bundle-dependencies.ts`)
  }
})
