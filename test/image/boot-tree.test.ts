// Which files are copied into the boot tree, which everybody in the network can read.

import assert from 'node:assert/strict'
import { lstatSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { suite, test } from 'node:test'
import { storeCopy, type BootFile } from '../../src/boot/boot-files.ts'
import { writeBootTree } from '../../src/image/boot-tree.ts'
import { baseNameOf } from '../../src/nix/store-path.ts'
import { findStoreFile } from '../../src/nixos/store-files.ts'
import { netimageError } from '../support/errors.ts'
import { parseStorePathOf } from '../support/store-paths.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'

const directory = temporaryDirectory()
const freshName = freshNames(directory)
const store = join(directory, 'store')
const trees = parseStorePathOf('trees')
const other = parseStorePathOf('other')

const find = (path: string) => findStoreFile((path) => Promise.resolve(`${store}${path}`), path)

function put(path: string, content = path): string {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, content)
  return path
}

function link(path: string, target: string): void {
  mkdirSync(dirname(path), { recursive: true })
  symlinkSync(target, path)
}

async function write(file: BootFile): Promise<string> {
  const tree = freshName()
  mkdirSync(tree)
  await writeBootTree(tree, [file], find)
  return join(tree, file.path)
}

async function writeStoreFile(path: string): Promise<string> {
  const found = await find(path)
  assert.ok(found)
  return await write(storeCopy('copy', found))
}

const secret = put(join(directory, 'secret'), 'the builder’s own')
put(`${store}${other}/board.dtb`, 'board')

suite('links of the closure', () => {
  test('become copies of their targets in the closure', async () => {
    link(`${store}${trees}/good/absolute.dtb`, `${other}/board.dtb`)
    link(`${store}${trees}/good/relative.dtb`, `../../${baseNameOf(other)}/board.dtb`)
    link(`${store}${trees}/good/folder`, other)
    const copy = await writeStoreFile(`${trees}/good`)
    for (const name of ['absolute.dtb', 'relative.dtb', 'folder/board.dtb']) {
      assert.ok(lstatSync(join(copy, name)).isFile(), name)
      assert.equal(readFileSync(join(copy, name), 'utf8'), 'board')
    }
  })

  test('publish no other files of the machine that builds', async () => {
    const targets = [secret, directory, '/etc/passwd', '../../../../../../../../../etc/passwd']
    for (const [index, target] of targets.entries()) {
      link(`${store}${trees}/bad-${index}/board.dtb`, target)
      const written = writeStoreFile(`${trees}/bad-${index}`)
      await assert.rejects(written, netimageError('bad-system', { actual: target }))
    }
  })
})

suite('links of a directory that a person named', () => {
  test('lead to files of this machine, or else to the closure', async () => {
    const firmware = join(directory, 'firmware')
    link(join(firmware, 'start4.elf'), secret)
    link(join(firmware, 'relative.elf'), '../secret')
    link(join(firmware, 'board.dtb'), `${other}/board.dtb`)
    const copy = await write({ path: 'firmware', content: { kind: 'copy', from: firmware } })
    assert.equal(readFileSync(join(copy, 'start4.elf'), 'utf8'), 'the builder’s own')
    assert.equal(readFileSync(join(copy, 'relative.elf'), 'utf8'), 'the builder’s own')
    assert.equal(readFileSync(join(copy, 'board.dtb'), 'utf8'), 'board')
  })

  test('without a target are errors', async () => {
    const firmware = join(directory, 'broken')
    const [file, actual] = [join(firmware, 'start4.elf'), `${parseStorePathOf('gone')}/start4.elf`]
    link(file, actual)
    await assert.rejects(
      write({ path: 'firmware', content: { kind: 'copy', from: firmware } }),
      netimageError('bad-system', { file, actual }),
    )
  })
})
