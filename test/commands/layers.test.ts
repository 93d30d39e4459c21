// `netimage layers`: managing the files that machines wrote.

import assert from 'node:assert/strict'
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { suite, test } from 'node:test'
import { DatabaseSync } from 'node:sqlite'
import * as v from 'valibot'
import { tryLock } from '../../src/lock.ts'
import { openSite } from '../../src/site/site.ts'
import { candidate } from '../site/life/support/simulate.ts'
import { listLayers } from '../../src/roots/stored-layer.ts'
import type { ErrorCode, ErrorDetails } from '../../src/errors.ts'
import { netimageError } from '../support/errors.ts'
import { runProgram } from '../support/real-nix.ts'
import { assertFailed, netimage, netimageJson, parseObject } from '../support/netimage.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import {
  identityOf,
  makeImage,
  otherSystem,
  openOver,
  put,
  read,
  firstSystem,
  within,
} from '../roots/support/stored-layers.ts'

const freshName = freshNames(temporaryDirectory())
const mac = 'dc:a6:32:01:02:03'
const folder = 'dc-a6-32-01-02-03'

const listSchema = v.object({
  layers: v.array(
    v.object({
      ...{ machine: v.string(), image: v.string(), directory: v.string(), inUse: v.boolean() },
      ...{ bytes: v.number(), files: v.number() },
      record: v.object({ name: v.string(), image: v.object({ name: v.string() }) }),
      snapshots: v.optional(v.array(v.object({ name: v.string(), bytes: v.number() }))),
    }),
  ),
})

const verifiedSchema = v.object({
  layers: v.array(
    v.object({
      problems: v.optional(v.array(v.string())),
      error: v.optional(v.object({ code: v.string(), details: v.object({ file: v.string() }) })),
    }),
  ),
})

const parsed = (value: unknown) => v.parse(v.record(v.string(), v.unknown()), value)

function fresh() {
  const state = freshName()
  const image = makeImage(freshName())
  const place = [state, mac, image] as const
  // The words may end with -- and what looks like a flag, so the flags are before them.
  const layers = (command: string, ...words: string[]) =>
    netimage(['layers', command, '--state', state, ...words])
  const shown = async () =>
    v.parse(listSchema, await netimageJson(['layers', 'show', mac, '--state', state])).layers
  const directory = join(state, 'layers', folder, 'root')
  const fails = async (
    [command = '', ...words]: string[],
    code: ErrorCode,
    details: ErrorDetails = {},
  ) => {
    const run = await layers(command, '--json', ...words)
    return { status: run.status, ...assertFailed(run, code, details) }
  }
  return { state, image, place, directory, layers, shown, fails }
}

suite('netimage layers', () => {
  test('shows nothing before the first machine', async () => {
    const { layers, fails, place, state } = fresh()
    assert.equal((await layers('list')).stdout, 'no layers yet\n')
    assert.equal((await layers('verify')).stdout, 'no layers yet\n')
    await within(place, () => {})
    const expected = { file: state, expected: '10.0.0.9' }
    assert.equal((await fails(['show', '10.0.0.9'], 'path-not-found', expected)).status, 3)
  })

  test('shows the layer of a machine by any form of its address', async () => {
    const { layers, shown, place, state, image } = fresh()
    await within(place, (system) => put(system, 'etc/hostname', 'mine'))
    await within([state, '10.0.0.7', image], (system) => put(system, 'x', 'x'))
    const [first, ...others] = await shown()
    assert.equal(others.length, 0)
    assert.equal(first?.files, 1)
    assert.equal(first.inUse, false)
    assert.equal(first.record.image.name, 'pi')
    assert.equal(first.image, identityOf(firstSystem))
    assert.match((await layers('show', 'DC-A6-32-01-02-03')).stdout, /pi {2}.* in 1 file {2}/)
    const listed = (await layers('list')).stdout.split('\n')
    assert.deepEqual(
      listed.map((line) => line.split(' ')[0]),
      ['10.0.0.7', mac, ''],
    )
  })

  // Otherwise the machine would boot the kernel of a system that its root does not have.
  test('keeps the files of a machine that boots a system which it built itself', async () => {
    const { state, place, layers, fails } = fresh()
    await within(place, (system) => put(system, 'mine', 'kept'))
    await layers('snapshot', mac, 'before')
    const site = openSite({ state, at: 0, onTold: () => {}, onError: assert.ifError })
    await site.beginAttempt(mac, 0, { byDefault: candidate('a') })
    const published = candidate('a', { published: 'system', toplevel: '/nix/store/built' })
    await site.assign(mac, published, Date.now() + 60_000, 'machine')
    site.close(0)
    for (const args of [['reset'], ['remove'], ['restore', 'before']]) {
      const [command = '', ...rest] = args
      const { hint } = await fails([command, mac, ...rest], 'bad-generation', { actual: 2 })
      assert.match(hint ?? '', /site assign .* site bad \S+ 2/)
    }
    assert.equal(await within(place, (system) => read(system, 'mine')), 'kept')
    await layers('snapshot', mac, 'after')
    utimesSync(join(state, 'layers', folder, 'root/snapshots/after'), 0, Date.now() / 1000 + 120)
    assert.equal((await layers('restore', mac, 'after')).status, 0)
    const again = openSite({ state, at: 0, onTold: () => {}, onError: assert.ifError })
    await again.assign(mac, candidate('b'), 0, 'person')
    again.close(0)
    assert.equal((await layers('reset', mac)).status, 0)
  })

  test('changes no layer that a server has open', async () => {
    const { place, directory, fails, layers } = fresh()
    await within(place, async (system) => {
      put(system, 'mine', 'kept')
      const all = [['reset'], ['remove'], ['verify'], ['snapshot', 'one'], ['restore', 'one']]
      for (const [command = '', ...rest] of all) {
        const { status } = await fails([command, mac, ...rest], 'in-use', { file: directory })
        assert.equal(status, 5, command)
      }
      assert.match((await layers('list')).stdout, /in use\n$/)
      assert.equal(read(system, 'mine'), 'kept')
    })
  })

  test('goes back to a snapshot, and to the image', async () => {
    const { place, layers, shown, state } = fresh()
    const name = await within(place, (system, layer) => {
      put(system, 'etc/hostname', 'first!')
      put(system, 'kept', 'x'.repeat(100_000))
      return layer.name
    })
    for (const name of ['before-generation-2', 'left-after-attempt-2']) {
      // The server would remove or take this for its own.
      const refused = await layers('snapshot', mac, name, '--json')
      assertFailed(refused, 'bad-usage', { actual: name })
    }
    assert.equal((await layers('snapshot', mac, 'one')).status, 0)
    await within(place, (system) => {
      put(system, 'etc/hostname', 'second')
      put(system, 'later', 'later')
      system.remove(system.root, Buffer.from('kept'))
    })
    assert.equal((await layers('restore', mac, 'one')).status, 0)
    const restored = await within(place, (system, layer) => {
      assert.equal(read(system, 'etc/hostname'), 'first!')
      assert.equal(read(system, 'kept'), 'x'.repeat(100_000))
      assert.equal(read(system, 'later'), undefined)
      return layer.name
    })
    assert.equal((await layers('reset', mac)).status, 0)
    const reset = await within(place, (system, layer) => {
      assert.equal(read(system, 'etc/hostname'), 'image\n')
      assert.equal(read(system, 'kept'), undefined)
      return layer.name
    })
    assert.equal(new Set([name, restored, reset]).size, 3, 'handles of one do for another')
    assert.deepEqual(
      (await shown()).map(({ snapshots }) => snapshots?.map((snapshot) => snapshot.name)),
      [['one']],
    )
    assert.equal((await layers('remove', mac, '--snapshot', 'one')).status, 0)
    assert.deepEqual((await shown())[0]?.snapshots, [])
    assert.equal((await layers('remove', mac)).status, 0)
    assert.deepEqual(
      readdirSync(join(state, 'layers', folder)).filter((n) => !n.endsWith('.lock')),
      [],
    )
  })

  test('keeps no unfinished copies of a killed server in a snapshot', async () => {
    const { layers, shown, place } = fresh()
    await within(place, (system) => put(system, 'etc/hostname', 'mine'))
    const [layer] = await shown()
    assert.ok(layer)
    const { directory, record } = layer
    // As it is left while the file is copied: test/roots/large-copies.test.ts.
    writeFileSync(join(directory, record.name, 'data/copy-1'), 'half of a large file')
    assert.equal((await layers('snapshot', mac, 'one')).status, 0)
    assert.equal(readdirSync(join(directory, 'snapshots/one/data')).length, 1)
  })

  test('refuses snapshots that exist already, do not exist, or have invalid names', async () => {
    const { place, directory, layers, fails } = fresh()
    await within(place, (system) => put(system, 'mine', 'mine'))
    assert.equal((await layers('snapshot', mac, 'one')).status, 0)
    const one = { file: join(directory, 'snapshots/one') }
    await fails(['snapshot', mac, 'one'], 'output-exists', one)
    const two = { file: join(directory, 'snapshots/two') }
    const { hint } = await fails(['restore', mac, 'two'], 'path-not-found', two)
    assert.match(hint ?? '', /one/)
    for (const name of ['../one', '.', '', 'a/b', '-x', 'x'.repeat(65)]) {
      const details = { field: 'snapshot', actual: name }
      await fails(['snapshot', mac, '--', name], 'bad-usage', details)
    }
    await within(place, (system) => assert.equal(read(system, 'mine'), 'mine'))
  })

  test('has layers of earlier versions, one for each image, until one becomes the machine’s', async () => {
    const { place, layers, fails, state, shown, directory } = fresh()
    const other = makeImage(freshName(), otherSystem)
    const older = (toplevel: string) => join(dirname(directory), identityOf(toplevel))
    await within(place, (system) => put(system, 'mine', 'one'))
    renameSync(directory, older(firstSystem))
    await within([state, mac, other], (system) => {
      assert.equal(read(system, 'mine'), 'one')
      put(system, 'mine', 'two')
    })
    renameSync(directory, older(otherSystem))
    mkdirSync(older(firstSystem))
    await within([state, '10.0.0.9', place[2]], (system) => put(system, 'mine', 'one'))
    rmdirSync(older(firstSystem))
    renameSync(join(state, 'layers/10.0.0.9/root'), older(firstSystem))

    const { hint } = await fails(['snapshot', mac, 'both'], 'bad-usage', { field: 'image' })
    assert.match(hint ?? '', new RegExp(identityOf(otherSystem)))
    assert.equal((await shown()).length, 2)
    // The layer over the image that the machine gets becomes its layer.
    await within([state, mac, other], (system) => assert.equal(read(system, 'mine'), 'two'))
    assert.match((await layers('show', mac)).stdout, /of an earlier version\n/)
    assert.match((await layers('reset', mac)).stdout, /^reset 1 layer/)
    assert.equal((await layers('remove', mac, '--image', identityOf(firstSystem))).status, 0)
    assert.deepEqual(
      (await shown()).map((layer) => layer.directory),
      [directory],
    )
  })

  test('keeps what a machine wrote if it gets another image', async () => {
    const { place, shown, state, layers } = fresh()
    const other = makeImage(freshName(), otherSystem)
    writeFileSync(join(other, 'net-image/pi/etc/motd'), 'other')
    const name = await within(place, (system, layer) => {
      put(system, 'etc/ssh/key', 'key')
      return layer.name
    })
    await within([state, mac, other], (system, layer) => {
      assert.deepEqual(
        ['etc/ssh/key', 'etc/motd', 'etc/hostname'].map((path) => read(system, path)),
        ['key', 'other', 'image\n'],
      )
      assert.equal(layer.name, name)
    })
    assert.deepEqual(
      (await shown()).map((layer) => layer.image),
      [identityOf(otherSystem)],
    )
    assert.match((await layers('verify')).stdout, /whole\n$/)
  })

  test('reports the damage of a layer', async () => {
    const { place, layers, shown, fails, image } = fresh()
    await within(place, (system) => put(system, 'mine', 'mine'))
    assert.match((await layers('verify')).stdout, /whole\n$/)
    const [stored] = await shown()
    assert.ok(stored)
    const file = join(stored.directory, stored.record.name, 'layer.sqlite')
    const database = new DatabaseSync(file)
    database.exec('UPDATE nodes SET links = 7 WHERE id > 1000')
    database.close()
    const run = await layers('verify', mac)
    assert.equal(run.status, 4)
    assert.match(run.stdout, /node \d+ has 1 link, but 7 in its record\n$/)

    writeFileSync(file, 'this is no database')
    await fails(['verify', mac], 'bad-state', { file })
    assert.throws(() => openOver(...place), netimageError('bad-state', { file }))
    assert.equal((await layers('reset', mac)).status, 0)
    assert.match((await layers('verify', mac)).stdout, /whole\n$/)

    writeFileSync(join(image, 'nix-support/net-image.json'), 'another')
    await fails(['verify', mac], 'bad-state', { file: image })
  })

  test('does not advise to reset a layer that only cannot be opened now', async () => {
    const { place, fails, shown } = fresh()
    await within(place, (system) => put(system, 'mine', 'kept'))
    const [layer] = await shown()
    assert.ok(layer)
    const file = join(layer.directory, layer.record.name, 'layer.sqlite')
    renameSync(file, `${file}.kept`)
    // SQLite cannot open the database, as if the disk failed or no file descriptors were left.
    mkdirSync(file)
    const { hint } = await fails(['verify', mac], 'file-system', { file })
    assert.doesNotMatch(hint ?? '', /reset/i)
    rmdirSync(file)
    renameSync(`${file}.kept`, file)
    await within(place, (system) => assert.equal(read(system, 'mine'), 'kept'))
  })

  test('checks the other layers if one cannot be checked', async () => {
    const { place, layers, state } = fresh()
    const other = makeImage(freshName(), otherSystem)
    await within([state, '10.0.0.7', other], (system) => put(system, 'mine', 'mine'))
    await within(place, (system) => put(system, 'mine', 'mine'))
    renameSync(other, `${other}.gone`)
    const run = await layers('verify')
    assert.equal(run.status, 1, run.stderr)
    const lines = run.stdout.trim().split('\n')
    assert.match(lines[0] ?? '', /^10\.0\.0\.7 {2}not checked: /)
    assert.match(lines[1] ?? '', /^dc:a6:32:01:02:03 {2}whole$/)
    const result = v.parse(verifiedSchema, JSON.parse((await layers('verify', '--json')).stdout))
    const [broken, whole] = result.layers
    assert.equal(broken?.error?.code, 'file-system')
    assert.ok(broken.error.details.file.startsWith(other))
    assert.deepEqual(whole?.problems, [])
  })

  test('says each time why a layer cannot be opened, and releases its lock', async () => {
    const { place, shown, state } = fresh()
    await within(place, (system) => put(system, 'mine', 'mine'))
    const [stored] = await shown()
    assert.ok(stored)
    const file = join(stored.directory, stored.record.name, 'layer.sqlite')
    const database = new DatabaseSync(file)
    database.exec("UPDATE meta SET value = 4 WHERE name = 'format'")
    database.exec("UPDATE meta SET value = 'netimage 99.1.0' WHERE name = 'writtenBy'")
    database.close()
    const before = readdirSync('/proc/self/fd').length
    for (let count = 0; count < 3; count++) {
      const expected = { file, actual: 'netimage 99.1.0' }
      assert.throws(() => openOver(...place), netimageError('bad-state', expected))
    }
    // The lock is released, so the next command need not wait.
    const [layer] = listLayers(state)
    const lock = layer && tryLock(layer.lock, 'exclusive')
    assert.ok(lock)
    lock.release()
    assert.equal(readdirSync('/proc/self/fd').length, before)
  })

  test('does not change the owner of layers, even if root changes them', async (context) => {
    if (process.geteuid?.() !== 0) return context.skip('only root works on what is another’s')
    const { place, layers, state } = fresh()
    await within(place, (system) => put(system, 'mine', 'mine'))
    await runProgram('chown', ['-R', '4321:4321', state])
    for (const [command = '', ...words] of [['snapshot', 'one'], ['restore', 'one'], ['reset']]) {
      assert.equal((await layers(command, mac, ...words)).status, 0)
      const others = await runProgram('find', [state, '!', '-user', '4321'])
      assert.equal(others, '', command)
    }
  })

  test('follows no links that the user of the layers put among them', async (context) => {
    if (process.geteuid?.() !== 0) return context.skip('only root works on what is another’s')
    const { place, fails, layers, shown, state } = fresh()
    await within(place, (system) => put(system, 'mine', 'mine'))
    const [stored] = await shown()
    assert.ok(stored)
    const victim = freshName()
    mkdirSync(victim)
    writeFileSync(join(victim, 'file'), 'of root', { mode: 0o600 })
    const { directory, record } = stored
    symlinkSync(victim, join(directory, 'snapshots'))
    for (const name of ['record.json.new', `${record.name}/data/ffff`]) {
      symlinkSync(join(victim, 'file'), join(directory, name))
    }
    await runProgram('chown', ['-Rh', '4321:4321', state])
    const before = await runProgram('find', [victim, '-printf', '%p %u %m %s\n'])
    for (const isOpen of [false, true]) {
      // If the user may not enter a directory above the layers, root does not become that user.
      const above = dirname(state)
      chmodSync(above, isOpen ? 0o755 : 0o700)
      await fails(['snapshot', mac, 'one'], isOpen ? 'file-system' : 'bad-state')
    }
    assert.equal((await layers('reset', mac)).status, 0)
    assert.equal(await runProgram('find', [victim, '-printf', '%p %u %m %s\n']), before)
    assert.equal(readFileSync(join(victim, 'file'), 'utf8'), 'of root')
  })

  test('keeps the fields of a newer netimage in a record, and refuses an unknown format', async () => {
    const { place, layers, fails, shown } = fresh()
    await within(place, (system) => put(system, 'mine', 'mine'))
    const [stored] = await shown()
    assert.ok(stored)
    const file = join(stored.directory, 'record.json')
    const change = (more: (record: Record<string, unknown>) => object) => {
      const text = JSON.stringify(more(parseObject(readFileSync(file, 'utf8'))))
      writeFileSync(file, text)
      return text
    }
    change((record) => ({
      ...record,
      generation: 7,
      image: { ...parsed(record['image']), epoch: 3 },
    }))
    assert.equal((await layers('reset', mac)).status, 0)
    await within(place, () => {})
    const kept = parseObject(readFileSync(file, 'utf8'))
    assert.equal(kept['generation'], 7)
    assert.equal(v.parse(v.object({ epoch: v.number() }), kept['image']).epoch, 3)

    const newer = change((record) => ({ ...record, format: 2, writtenBy: 'netimage 99.1.0' }))
    const by = { file, actual: 'netimage 99.1.0' }
    for (const [command = '', ...rest] of [['reset'], ['snapshot', 'one'], ['verify']]) {
      const { hint } = await fails([command, mac, ...rest], 'bad-state', by)
      assert.match(hint ?? '', /^Use netimage 99\.1\.0/)
    }
    assert.throws(() => openOver(...place), netimageError('bad-state', by))
    assert.equal(readFileSync(file, 'utf8'), newer)
    assert.match((await layers('list')).stdout, /written by netimage 99\.1\.0/)
    assert.equal((await layers('remove', mac)).status, 0)
  })

  test('does not change one byte of the database of a newer netimage', async () => {
    const { place, shown } = fresh()
    await within(place, (system) => put(system, 'mine', 'mine'))
    const [stored] = await shown()
    assert.ok(stored)
    const contents = join(stored.directory, stored.record.name)
    const file = join(contents, 'layer.sqlite')
    const database = new DatabaseSync(file)
    database.exec(
      'PRAGMA journal_mode = DELETE; DROP INDEX entries_by_cookie; PRAGMA user_version = 4',
    )
    database.close()
    const before = readFileSync(file)
    const names = readdirSync(contents)
    assert.throws(() => openOver(...place), netimageError('bad-state', { file }))
    assert.ok(readFileSync(file).equals(before))
    assert.deepEqual(readdirSync(contents), names)
  })

  test('removes a snapshot if an earlier removal was killed after it took the name away', async () => {
    const { place, layers, shown } = fresh()
    await within(place, (system) => put(system, 'mine', 'mine'))
    const [stored] = await shown()
    mkdirSync(join(stored?.directory ?? '', 'snapshots/.removed-one/data'), { recursive: true })
    assert.equal((await layers('snapshot', mac, 'one')).status, 0)
    assert.equal((await layers('remove', mac, '--snapshot', 'one')).status, 0)
    assert.deepEqual((await shown())[0]?.snapshots, [])
  })

  test('removes a layer whose record is broken', async () => {
    const { place, layers, fails, state, shown } = fresh()
    await within(place, (system) => put(system, 'mine', 'mine'))
    const [stored] = await shown()
    const file = join(stored?.directory ?? '', 'record.json')
    writeFileSync(file, '{')
    const { hint } = await fails(['show', mac], 'bad-state', { file })
    assert.match(hint ?? '', /layers remove/)
    assert.equal((await layers('remove', mac)).status, 0)
    assert.match((await layers('list')).stdout, /no layers yet/)
    mkdirSync(join(state, 'layers', 'left', 'over'), { recursive: true })
    assert.match((await layers('list')).stdout, /no layers yet/)
  })
})
