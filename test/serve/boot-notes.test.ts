// The notes of the module in the root of a machine, which the machine can write as it likes.

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { readFailedNote, readGoodNote } from '../../src/serve/boot-notes.ts'
import { makeRoot, plant, type Made } from '../site/publish/support/roots.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'

const freshName = freshNames(temporaryDirectory())
const bootId = '6b3a7d0e-4c57-4c5e-9d5f-0f1f2a3b4c5d'
const toplevel = '/nix/store/00000000000000000000000000000000-nixos-system'
const good = JSON.stringify({ version: 1, bootId, toplevel })

suite('the notes about a boot in a root', () => {
  const { fileSystem } = makeRoot(freshName())
  const put = (name: string, made: Made) => plant(fileSystem, `/nix/var/netimage/${name}`, made)

  test('say that it is good, or which units have failed', () => {
    assert.equal(readGoodNote(fileSystem), undefined)
    put('blessed', { file: good })
    assert.deepEqual(readGoodNote(fileSystem), { kind: 'bless', bootId, toplevel })
    const units = ['a.service', 'b.mount', 'c', 'd', 'e', 'f', 'g']
    put('failed', { file: JSON.stringify({ version: 1, bootId, toplevel, units }) })
    assert.deepEqual(readFailedNote(fileSystem), {
      kind: 'trouble',
      trouble: 'boot-complete.target was not reached: a.service, b.mount, c, d, e and 2 more',
    })
  })

  test('count for nothing if they are not as the module writes them', () => {
    const texts = ['', '{', good.replace('1', '2'), good.slice(1), good.replace(bootId, 'x'), '[]']
    for (const text of [...texts, `${good}${' '.repeat(5000)}`]) {
      put('blessed', { file: text })
      assert.equal(readGoodNote(fileSystem)?.kind === 'bless', text.startsWith(good), text)
    }
    for (const made of [{ link: '/etc/passwd' }, { special: 'fifo' }, { hole: 2 ** 40 }] as const) {
      put('blessed', made)
      assert.equal(readGoodNote(fileSystem), undefined)
    }
    fc.assert(
      fc.property(fc.string(), (text) => {
        put('failed', { file: text })
        return readFailedNote(fileSystem) === undefined
      }),
    )
  })
})
