// The image below a root is changed: the server must not serve other bytes than were built.

import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import {
  cpSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { promisify } from 'node:util'
import { FileSystemError } from '../../src/protocols/nfs/file-system.ts'
import { openLayer } from './support/open-layer.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { find, put, read } from './support/stored-layers.ts'
import { createIndex } from './support/tree-index.ts'

const freshName = freshNames(temporaryDirectory())
const builtAt = 1

function makeTree(content: string): string {
  const root = freshName()
  mkdirSync(join(root, 'etc'), { recursive: true })
  writeFileSync(join(root, 'etc/name'), content)
  symlinkSync('name', join(root, 'etc/link'))
  for (const name of ['etc/name', 'etc']) utimesSync(join(root, name), builtAt, builtAt)
  return root
}

function openOver(root: string) {
  const directory = freshName()
  mkdirSync(directory)
  return openLayer(directory, createIndex('tree', root))
}

const inputOutput = (error: unknown) =>
  error instanceof FileSystemError &&
  error.code === 'EIO' &&
  /\/etc\/\w+ has changed while it was served/.test(error.message)

const changes: Record<string, (file: string) => void> = {
  'a link in its place'(file) {
    const secret = freshName()
    writeFileSync(secret, 'secret')
    rmSync(file)
    symlinkSync(secret, file)
  },
  'another file of the same size and time'(file) {
    const other = freshName()
    writeFileSync(other, 'secret')
    utimesSync(other, builtAt, builtAt)
    renameSync(other, file)
  },
  'other bytes in it'(file) {
    writeFileSync(file, 'secret')
  },
  'its directory a link to another'(file) {
    const other = freshName()
    cpSync(join(file, '..'), other, { recursive: true, preserveTimestamps: true })
    rmSync(join(file, '..'), { recursive: true })
    symlinkSync(other, join(file, '..'))
  },
  'nothing in its place'(file) {
    rmSync(file)
  },
}

suite('a file of the image', () => {
  for (const [what, change] of Object.entries(changes)) {
    test(`with ${what} is neither read nor copied, and the error names it`, async () => {
      const root = makeTree('public')
      const layer = openOver(root)
      change(join(root, 'etc/name'))
      assert.throws(() => read(layer.fileSystem, 'etc/name'), inputOutput)
      assert.throws(() => put(layer.fileSystem, 'etc/name', 'x'), inputOutput)
      await layer.close()
    })
  }

  test('below a directory that became a link is not served, even if it is the same file', async () => {
    const root = makeTree('public')
    const layer = openOver(root)
    const moved = freshName()
    renameSync(join(root, 'etc'), moved)
    symlinkSync(moved, join(root, 'etc'))
    assert.throws(() => read(layer.fileSystem, 'etc/name'), inputOutput)
    await layer.close()
  })

  test('that became a FIFO does not block the server', async () => {
    const root = makeTree('public')
    const directory = freshName()
    mkdirSync(directory)
    const module = (name: string) => JSON.stringify(join(import.meta.dirname, '../../src', name))
    const program = `
      import { createIndex } from ${module('../test/roots/support/tree-index.ts')}
      import { openLayer } from ${module('../test/roots/support/open-layer.ts')}
      import { rmSync } from 'node:fs'
      import { execFileSync } from 'node:child_process'
      const { fileSystem } = openLayer(${JSON.stringify(directory)}, createIndex('tree', ${JSON.stringify(root)}))
      const etc = fileSystem.lookup(fileSystem.root, Buffer.from('etc'))
      const file = fileSystem.lookup(etc, Buffer.from('name'))
      rmSync(${JSON.stringify(join(root, 'etc/name'))})
      execFileSync('mkfifo', [${JSON.stringify(join(root, 'etc/name'))}])
      for (const action of [
        () => fileSystem.read(file, 0, Buffer.alloc(9)),
        () => fileSystem.write(file, 0, Buffer.from('x')),
      ]) {
        try { action() } catch (error) { console.log(error.code) }
      }`
    // A program that opens the FIFO as a file waits for its other end, and is killed.
    const run = await promisify(execFile)(
      process.execPath,
      ['--input-type=module', '--eval', program],
      { timeout: 900_000 },
    )
    assert.equal(run.stdout, 'EIO\nEIO\n')
  })

  test('is still found if another tree gets the name of its tree', async () => {
    const [root, other] = [makeTree('old'), makeTree('new')]
    const layer = openOver(root)
    renameSync(root, freshName())
    renameSync(other, root)
    assert.equal(read(layer.fileSystem, 'etc/name'), 'old')
    put(layer.fileSystem, 'etc/name', 'mine')
    assert.equal(readFileSync(join(root, 'etc/name'), 'utf8'), 'new')
    await layer.close()
  })

  test('that is a link with a changed target: neither the old nor the new target is given', async () => {
    const root = makeTree('public')
    const layer = openOver(root)
    const link = find(layer.fileSystem, 'etc/link') ?? 0
    assert.equal(layer.fileSystem.readLink(link).toString(), 'name')
    execFileSync('ln', ['-sfn', 'else', join(root, 'etc/link')])
    assert.throws(() => layer.fileSystem.readLink(link), inputOutput)
    await layer.close()
  })
})

suite('a file of a layer', () => {
  test('that became a link is neither read nor written', async () => {
    const [root, directory, secret] = [makeTree('public'), freshName(), freshName()]
    mkdirSync(directory)
    writeFileSync(secret, 'secret')
    const layer = openLayer(directory, createIndex('tree', root))
    const file = put(layer.fileSystem, 'mine', 'mine')
    await layer.fileSystem.commit(file)
    await layer.close()
    const data = join(directory, 'data', file.toString(16))
    rmSync(data)
    symlinkSync(secret, data)
    const again = openLayer(directory, createIndex('tree', root))
    assert.throws(() => read(again.fileSystem, 'mine'), FileSystemError)
    assert.throws(() => put(again.fileSystem, 'mine', 'x'), FileSystemError)
    assert.equal(readFileSync(secret, 'utf8'), 'secret')
    await again.close()
  })
})
