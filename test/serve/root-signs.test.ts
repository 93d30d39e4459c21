// What a machine does in its root, as signs for the site.

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { watchRoots } from '../../src/serve/root-signs.ts'
import { statusOf } from '../../src/site/status.ts'
import { newLife, type Generation } from '../../src/site/life/life.ts'
import { makeRoot, plant } from '../site/publish/support/roots.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'

const freshName = freshNames(temporaryDirectory())
const toplevel = '/nix/store/00000000000000000000000000000000-nixos-system'
const profiles = '/nix/var/nix/profiles'
const bootId = '6b3a7d0e-4c57-4c5e-9d5f-0f1f2a3b4c5d'

function open() {
  const { fileSystem } = makeRoot(freshName())
  const signs: unknown[] = []
  const steps: string[] = []
  const { observe } = watchRoots({
    machines: { rootOf: () => ({ fileSystem, isInit: () => false }) },
    report: ({ step }) => void steps.push(step),
    onSign: (_machine, sign) => void (sign.kind === 'alive' || signs.push(sign)),
  })
  const renames = (path: string) => {
    const names = path.split('/').filter(Boolean)
    const name = Buffer.from(names.pop() ?? '')
    const directory = names.reduce(
      (at, each) => fileSystem.lookup(at, Buffer.from(each)) ?? assert.fail(each),
      fileSystem.root,
    )
    observe({ machine: 'pi1', procedure: 'RENAME', directory, name })
  }
  return { fileSystem, signs, steps, renames }
}

suite('a root', () => {
  test('tells the system of its profile, through the link of its generation', () => {
    const { fileSystem, signs, steps, renames } = open()
    plant(fileSystem, `${profiles}/system-7-link`, { link: toplevel })
    plant(fileSystem, `${profiles}/system`, { link: 'system-7-link' })
    renames(`${profiles}/system`)
    assert.deepEqual([signs, steps], [[{ kind: 'profile', toplevel }], ['registered']])
  })

  test('tells no profile that leads elsewhere', () => {
    const hostile = ['system', '../../../etc', '/etc/passwd', `${toplevel}/..`, '/nix/store/x']
    for (const link of hostile) {
      const { fileSystem, signs, renames } = open()
      plant(fileSystem, `${profiles}/system`, { link })
      renames(`${profiles}/system`)
      assert.deepEqual(signs, [], link)
    }
  })

  test('tells the note that a boot is good only from the directory of the notes', () => {
    const { fileSystem, signs, renames } = open()
    const file = JSON.stringify({ version: 1, bootId, toplevel })
    plant(fileSystem, '/tmp/blessed', { file })
    plant(fileSystem, '/var/lib/netimage/blessed', { file })
    renames('/tmp/blessed')
    assert.deepEqual(signs, [])
    renames('/var/lib/netimage/blessed')
    assert.deepEqual(signs, [{ kind: 'bless', bootId, toplevel }])
  })
})

test('the status names a profile that the machine has not published', () => {
  const life = { ...newLife('pi1'), profile: toplevel }
  assert.match(statusOf(life, undefined, 0).alarms.join(), /its profile is .* has not published/)
  const generation: Generation = {
    ...{ image: 'a', published: 'digest', toplevel, blesses: true, number: 1, madeAt: 0 },
    ...{ verdict: 'trial', failures: 0, spent: 0 },
  }
  assert.deepEqual(statusOf({ ...life, generations: [generation] }, undefined, 0).alarms, [])
})
