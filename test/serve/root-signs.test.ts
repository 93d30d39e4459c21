// What a machine does in its root, as signs for the site.

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { FileSystemError, type FileSystem } from '../../src/protocols/nfs/file-system.ts'
import { watchRoots } from '../../src/serve/root-signs.ts'
import { statusOf } from '../../src/site/status.ts'
import { newLife, type Generation } from '../../src/site/life/life.ts'
import { makeRoot, plant } from '../site/publish/support/roots.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'

const freshName = freshNames(temporaryDirectory())
const toplevel = '/nix/store/00000000000000000000000000000000-nixos-system'
const profiles = '/nix/var/nix/profiles'
const notes = '/nix/var/netimage'
const bootId = '6b3a7d0e-4c57-4c5e-9d5f-0f1f2a3b4c5d'

const good = JSON.stringify({ version: 1, bootId, toplevel })

function open() {
  const { fileSystem } = makeRoot(freshName())
  const signs: unknown[] = []
  const steps: string[] = []
  /** Files that the server has read, and how often it is to fail from now on. */
  const disk = { reads: 0, failures: 0 }
  const read: FileSystem['read'] = (...what) => {
    disk.reads++
    if (disk.failures-- > 0) throw new FileSystemError('EIO', 'the disk fails')
    return fileSystem.read(...what)
  }
  const { observe, opens } = watchRoots({
    machines: { rootOf: () => ({ fileSystem: { ...fileSystem, read }, isInit: () => false }) },
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
  return { fileSystem, signs, steps, renames, disk, opens: () => opens('pi1') }
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

  test('tells the note that a boot is good only from the directory of the notes', (context) => {
    context.mock.timers.enable({ apis: ['setTimeout'] })
    const { fileSystem, signs, renames } = open()
    plant(fileSystem, '/tmp/blessed', { file: good })
    plant(fileSystem, `${notes}/blessed`, { file: good })
    renames('/tmp/blessed')
    assert.deepEqual(signs, [])
    context.mock.timers.tick(1000)
    renames(`${notes}/blessed`)
    assert.deepEqual(signs, [{ kind: 'bless', bootId, toplevel }])
  })

  // The server may have been killed between the note and its own record of it.
  test('tells the notes of this boot and the profile when it is opened', () => {
    const none = open()
    none.opens()
    assert.deepEqual(none.signs, [])
    const { fileSystem, signs, steps, opens } = open()
    plant(fileSystem, `${notes}/blessed`, { file: good })
    plant(fileSystem, `${notes}/failed`, { file: '{ "version": 1, "units": ["web.service"] }' })
    plant(fileSystem, `${profiles}/system`, { link: toplevel })
    opens()
    assert.deepEqual(signs, [
      { kind: 'trouble', trouble: 'boot-complete.target was not reached: web.service' },
      { kind: 'bless', bootId, toplevel },
      { kind: 'profile', toplevel },
    ])
    assert.deepEqual(steps, [])
  })

  test('is read once a second, however often a machine names a note, and its last note is not missed', (context) => {
    context.mock.timers.enable({ apis: ['setTimeout'] })
    const { fileSystem, signs, disk, renames } = open()
    const other = bootId.replace('6', '7')
    for (let count = 0; count < 100; count++) {
      plant(fileSystem, `${notes}/blessed`, {
        file: good.replace(bootId, count < 99 ? bootId : other),
      })
      renames(`${notes}/blessed`)
    }
    assert.deepEqual([signs, disk.reads], [[{ kind: 'bless', bootId, toplevel }], 1])
    context.mock.timers.tick(1000)
    assert.deepEqual(
      [signs.slice(1), disk.reads],
      [[{ kind: 'bless', bootId: other, toplevel }], 2],
    )
    context.mock.timers.tick(5000)
    assert.equal(disk.reads, 2)
  })

  test('is read again if a note could not be read', (context) => {
    context.mock.timers.enable({ apis: ['setTimeout'] })
    const { fileSystem, signs, disk, renames, opens } = open()
    plant(fileSystem, `${notes}/blessed`, { file: good })
    for (const begin of [
      () => assert.throws(() => renames(`${notes}/blessed`), FileSystemError),
      opens,
    ]) {
      disk.failures = 2
      begin()
      context.mock.timers.tick(1000)
      assert.deepEqual(signs.splice(0), [])
      context.mock.timers.tick(1000)
      assert.deepEqual(signs.splice(0), [{ kind: 'bless', bootId, toplevel }])
      context.mock.timers.tick(1000)
    }
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
