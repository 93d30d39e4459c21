// The requests of machines, and the answers that their hooks read.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, statfsSync } from 'node:fs'
import { join } from 'node:path'
import { mock, suite, test } from 'node:test'
import fc from 'fast-check'
import { sharedPath } from '../../../src/boot/boot-files.ts'
import type { FileSystem, NodeId } from '../../../src/protocols/nfs/file-system.ts'
import { openPublishRoom } from '../../../src/site/publish/limit.ts'
import { createPublishing, type PublishingSettings } from '../../../src/site/publish/publishing.ts'
import { answerBytes, formatAnswer, parseRequest } from '../../../src/site/publish/request.ts'
import { freshNames, temporaryDirectory } from '../../support/temporary.ts'
import { waitUntil } from '../../support/waiting.ts'
import { openBelow } from '../../roots/support/open-below.ts'
import { imageIn } from './support/images.ts'
import { kernelPath, makeRoot, plant, plantAll, systemOf, type Made } from './support/roots.ts'

const freshName = freshNames(temporaryDirectory())
const folder = '/nix/var/netimage/publish'
const { toplevel, files } = systemOf('published')

interface World {
  fileSystem: FileSystem
  published: string
  notice: () => void
  /** The request of a hook: the answer file is made before. */
  request: (text: string) => void
  answer: () => string
  /** Waits until it is so. An error may be the reason why it never is, so the first one is thrown. */
  until: (what: string, isSo: () => boolean) => Promise<void>
  /** Waits until the answer to `id` is more than that the server works. */
  answerTo: (id: string) => Promise<string>
  /** Of the published systems, in the order in which they came. */
  ids: string[]
  /** The generations that were made: the kernel that each boots. */
  generations: string[]
  errors: string[]
  /** For each publish, whether the system tells that a boot is good. */
  blessing: boolean[]
  /** For each publish, the images that the system keeps besides its own. */
  keptImages: string[][]
  /** What the server says that the published systems take on the disk. */
  bytes: () => number
  /** How often the server has looked at the root. */
  turns: () => number
  close: () => Promise<void>
}

function makeWorld(
  settings: Partial<PublishingSettings> = {},
  earlierImages: string[] = [],
  limit?: number,
): World {
  const root = makeRoot(freshName(), limit)
  const { fileSystem } = root
  plantAll(fileSystem, files)
  plant(fileSystem, `${folder}/answer`, { file: emptyAnswer })
  const published = join(freshName(), 'published')
  const generations: string[] = []
  const errors: string[] = []
  let turns = 0
  const ids: string[] = []
  const blessing: boolean[] = []
  const keptImages: string[][] = []
  const image = { ...imageIn(freshName(), {}), keptImages: earlierImages }
  const publishing = createPublishing({
    rootOf() {
      turns++
      return { fileSystem, image }
    },
    directoryOf: () => published,
    known: () => Promise.resolve(undefined),
    async take(_machine, { id, bootTree, system, blesses, keptImages: kept }) {
      keptImages.push(kept)
      blessing.push(blesses)
      if (!ids.includes(id)) {
        ids.push(id)
        const kernel = sharedPath(system.entries[0]?.kernel ?? '')
        generations.push(readFileSync(join(bootTree, kernel), 'utf8'))
      }
      const numbered = `This is generation ${ids.indexOf(id) + 1}.`
      return { keep: [system.toplevel], says: [numbered, 'It has 3 tries.'] }
    },
    needed: () => new Set(ids),
    onRefused: () => Promise.resolve(),
    onError: ({ message }) => errors.push(message),
    ...settings,
  })
  const until = (what: string, isSo: () => boolean) =>
    waitUntil(what, () => {
      assert.deepEqual(errors, [])
      return isSo()
    })
  const answer = () => readFrom(fileSystem, `${folder}/answer`)
  return {
    ...{ fileSystem, published, answer, ids, generations, errors, blessing, keptImages },
    turns: () => turns,
    bytes: () => publishing.bytesOf('machine'),
    notice: () => publishing.notice('machine'),
    request(text) {
      plant(fileSystem, `${folder}/request`, { file: text })
      const name = Buffer.from('request')
      publishing.observe({ machine: 'machine', procedure: 'RENAME', name })
    },
    until,
    async answerTo(id) {
      const isFinal = new RegExp(`^id ${id}\nstatus (?!working)`)
      await until(`the answer to ${id}`, () => isFinal.test(answer()))
      return answer()
    },
    async close() {
      await publishing.close()
      await root.close()
    },
  }
}

function readFrom(system: FileSystem, path: string): string {
  const node = findIn(system, path)
  assert.ok(node !== undefined, path)
  const bytes = Buffer.alloc(system.attributes(node).size)
  return bytes.toString('utf8', 0, system.read(node, 0, bytes)).replace(/ +$/, '')
}

/** As the hook makes it. */
const emptyAnswer = ' '.repeat(answerBytes)

/** The machine writes until its layer has reached its limit. */
function fillUp(system: FileSystem): void {
  const log = plant(system, '/log', { file: '' })
  let end = 0
  const write = (size: number) => {
    system.write(log, end, Buffer.alloc(size, 'log'))
    end += size
  }
  for (const size of [2 ** 20, 2 ** 16, 4096]) {
    assert.throws(
      () => {
        for (;;) write(size)
      },
      { code: 'ENOSPC' },
    )
  }
}

function readAnswers(system: FileSystem): string[] {
  const paths = [`${folder}/answer`, '/elsewhere/answer']
  return paths
    .filter((path) => findIn(system, path) !== undefined)
    .map((path) => readFrom(system, path))
}

function findIn(system: FileSystem, path: string): NodeId | undefined {
  let node: NodeId | undefined = system.root
  for (const name of path.split('/').filter(Boolean)) {
    if (node === undefined || system.attributes(node).kind !== 'directory') return undefined
    node = system.lookup(node, Buffer.from(name))
  }
  return node
}

const requestFor = (path: string, id = 'one') =>
  JSON.stringify({ version: 1, id, toplevel: path }) + '\n'

suite('a request to publish', () => {
  test('is answered with the number of the generation', async () => {
    const world = makeWorld()
    try {
      world.request(requestFor(toplevel))
      assert.equal(
        await world.answerTo('one'),
        [
          'id one',
          'status published',
          `keep ${toplevel}`,
          'say This is generation 1.',
          'say It has 3 tries.',
          '',
        ].join('\n'),
      )
      assert.deepEqual(world.generations, ['kernel of published'])
      assert.deepEqual(world.errors, [])
    } finally {
      await world.close()
    }
  })

  test('keeps the images that the machine sees, but only the newest of many', async () => {
    const earlier = Array.from({ length: 18 }, (_, number) => `image ${number}`)
    const world = makeWorld({}, earlier)
    try {
      world.request(requestFor(toplevel))
      assert.match(await world.answerTo('one'), /\nsay Warning: .* 18 earlier images.* 16 newest/)
      assert.deepEqual(world.keptImages, [earlier.slice(2)])
    } finally {
      await world.close()
    }
  })

  test('is refused if the system was bad on this machine', async () => {
    const refusal = { why: 'it is bad', hint: 'Build another.' }
    const refused =
      'id one\nstatus refused\nsay The server does not boot this system: it is bad.\nsay Build another.\n'
    const before = makeWorld({ known: () => Promise.resolve(refusal) })
    try {
      before.request(requestFor(toplevel))
      assert.equal(await before.answerTo('one'), refused)
      assert.ok(!existsSync(before.published))
    } finally {
      await before.close()
    }
    // A person said so while the boot files were made.
    const meanwhile = makeWorld({ take: () => Promise.resolve(refusal) })
    try {
      meanwhile.request(requestFor(toplevel))
      assert.equal(await meanwhile.answerTo('one'), refused)
      assert.deepEqual(readdirSync(meanwhile.published), [])
    } finally {
      await meanwhile.close()
    }
  })

  const bad: Record<string, [Made, string]> = {
    'with another path': [{ file: requestFor('/etc') }, '"/etc" is not a store path'],
    'with .. in its path': [
      { file: requestFor(`${toplevel}/../../../etc`) },
      `"${toplevel}/../../../etc" is not a store path`,
    ],
    'with a line in its path': [
      { file: requestFor(`/nix/store/x\nstatus published`) },
      String.raw`"/nix/store/x\nstatus published" is not a store path`,
    ],
    'that is no JSON': [{ file: 'toplevel' }, 'the request is not JSON'],
    'of another version': [{ file: '{"version":2}' }, 'the request has a wrong version'],
    'without an id': [{ file: '{"version":1}' }, 'the request has a wrong id'],
    'with a line in its id': [
      { file: '{"version":1,"id":"a\\nb","toplevel":""}' },
      'the request has a wrong id',
    ],
    'with 1 MB of JSON': [
      { file: `{"version":1,"toplevel":"${'x'.repeat(1e6)}"}` },
      'the request is not JSON',
    ],
    'with 2 GB': [{ hole: 2 * 1024 ** 3 }, 'the request is not JSON'],
  }
  for (const [what, [made, why]] of Object.entries(bad)) {
    test(`${what} is refused`, async () => {
      const world = makeWorld()
      try {
        plant(world.fileSystem, `${folder}/request`, made)
        world.notice()
        const expected = `status refused\nsay The server does not boot this system: ${why}.\n`
        await world.until('the answer', () => world.answer().includes(expected))
        const [, , , hint] = world.answer().split('\n')
        assert.match(hint ?? '', /^say (Use one version of netimage|Build the system)/)
        assert.deepEqual(world.errors, [])
      } finally {
        await world.close()
      }
    })
  }

  const nothing: Record<string, (system: FileSystem) => void> = {
    'a FIFO as the request': (system) =>
      void plant(system, `${folder}/request`, { special: 'fifo' }),
    'a directory as the request': (system) =>
      void plant(system, `${folder}/request`, { directory: {} }),
    'a link as the request': (system) => {
      plant(system, '/elsewhere', { file: requestFor(toplevel) })
      plant(system, `${folder}/request`, { link: '/elsewhere' })
    },
    'a link as the directory': (system) => {
      plant(system, '/elsewhere/request', { file: requestFor(toplevel) })
      plant(system, '/elsewhere/answer', { file: '' })
      const lib = findIn(system, '/nix/var/netimage')
      assert.ok(lib !== undefined)
      system.rename(lib, Buffer.from('publish'), lib, Buffer.from('away'))
      plant(system, '/nix/var/netimage/publish', { link: '/elsewhere' })
    },
  }
  for (const [what, make] of Object.entries(nothing)) {
    test(`is none with ${what}`, async () => {
      const world = makeWorld()
      try {
        make(world.fileSystem)
        world.notice()
        await world.until('the turn of the machine', () => world.turns() > 0)
        // The first answer to a request is written in the turn itself.
        assert.deepEqual(readAnswers(world.fileSystem), [''])
        assert.deepEqual([world.generations, world.errors], [[], []])
      } finally {
        await world.close()
      }
    })
  }

  test('is answered only once, even if the root is opened again', async () => {
    const world = makeWorld()
    try {
      world.request(requestFor(toplevel))
      const first = await world.answerTo('one')
      plant(world.fileSystem, `${kernelPath}/bzImage`, { file: 'another kernel' })
      const before = world.turns()
      world.notice()
      await world.until('the turn of the machine', () => world.turns() > before)
      world.request(requestFor('/etc', 'two'))
      await world.answerTo('two')
      assert.equal(world.generations.length, 1)
      assert.match(first, /^id one\n/)
    } finally {
      await world.close()
    }
  })

  test('that a server left unfinished is finished by the next', async () => {
    const world = makeWorld()
    try {
      plant(world.fileSystem, `${folder}/answer`, { file: 'id one\nstatus working\n' })
      // As after kill -9.
      mkdirSync(join(world.published, 'unfinished/staged/nix/store'), { recursive: true })
      world.request(requestFor(toplevel))
      assert.match(await world.answerTo('one'), /status published/)
      assert.equal(readdirSync(world.published).length, 1)
    } finally {
      await world.close()
    }
  })

  test('is not refused for good if the machine starts again meanwhile', async () => {
    const before = makeWorld()
    const after = makeWorld()
    const image = imageIn(freshName(), {})
    let fileSystem = before.fileSystem
    let refusals = 0
    const world = makeWorld({
      rootOf: () => ({ fileSystem, image }),
      known() {
        if (++refusals > 1) return Promise.resolve(undefined)
        plant(after.fileSystem, `${folder}/request`, { file: requestFor(toplevel) })
        fileSystem = after.fileSystem
        world.notice()
        return Promise.resolve({ why: 'the root of the first start was closed' })
      },
    })
    try {
      plant(before.fileSystem, `${folder}/request`, { file: requestFor(toplevel) })
      world.notice()
      const isPublished = () => after.answer().startsWith('id one\nstatus published\n')
      await world.until('the answer in the new root', isPublished)
      assert.match(before.answer(), /status working/)
    } finally {
      for (const each of [world, before, after]) await each.close()
    }
  })

  // A person may have chosen something else for the boot that has begun.
  test('makes no generation if the machine starts again while its boot files are made', async () => {
    const before = makeWorld()
    const after = makeWorld()
    const image = imageIn(freshName(), {})
    let { fileSystem } = before
    let looksAfter = 0
    const world = makeWorld({
      rootOf() {
        if (fileSystem === after.fileSystem) looksAfter++
        return { fileSystem, image }
      },
      known() {
        ;({ fileSystem } = after)
        return Promise.resolve(undefined)
      },
    })
    try {
      plant(before.fileSystem, `${folder}/request`, { file: requestFor(toplevel) })
      world.notice()
      await world.until('the look at the new root', () => looksAfter > 0)
    } finally {
      for (const each of [world, before, after]) await each.close()
    }
    assert.deepEqual(world.generations, [])
    assert.deepEqual(readdirSync(world.published), [])
  })

  test('gets no answer if the machine has made no file for it', async () => {
    const world = makeWorld()
    try {
      plant(world.fileSystem, `${folder}/answer`, { special: 'fifo' })
      world.request(requestFor(toplevel))
      await world.until('the generation', () => world.generations.length === 1)
    } finally {
      await world.close()
    }
    assert.deepEqual(world.errors, [])
  })

  test('keeps only the boot files of generations that the machine needs', async () => {
    const world = makeWorld({ needed: () => new Set([world.ids[0] ?? '', world.ids.at(-1) ?? '']) })
    try {
      for (const id of ['first', 'second', 'third']) {
        plant(world.fileSystem, `${kernelPath}/bzImage`, { file: `kernel of ${id}` })
        world.request(requestFor(toplevel, id))
        await world.answerTo(id)
      }
      const [first, , third] = world.ids
      assert.deepEqual(new Set(readdirSync(world.published)), new Set([first, third]))
    } finally {
      await world.close()
    }
  })
})

test('systems that a machine publishes one after the other leave no more files, and none open', async () => {
  const here = freshName()
  let time = 0
  const world: World = makeWorld({
    directoryOf: () => join(here, 'published'),
    // Only the newest.
    needed: () => new Set(world.ids.slice(-1)),
    now: () => time,
  })
  async function publish(count: number) {
    for (let made = 0; made < count; made++) {
      const id = `system-${world.ids.length}`
      plant(world.fileSystem, `${kernelPath}/bzImage`, { file: `kernel of ${id}` })
      // So that it need not wait for its turn.
      time += 60_000
      world.request(requestFor(toplevel, id))
      await world.answerTo(id)
    }
    const names = readdirSync(here, { recursive: true })
    return { files: names.length, bytes: world.bytes(), open: openBelow(here) }
  }
  try {
    const few = await publish(10)
    assert.deepEqual(few.open, [])
    assert.deepEqual(await publish(40), few)
    assert.equal(world.ids.length, 50)
  } finally {
    await world.close()
  }
})

suite('the room that published systems take', () => {
  const megabyte = 2 ** 20
  const plantKernel = ({ fileSystem }: World, size: number) =>
    plant(fileSystem, `${kernelPath}/bzImage`, { file: Buffer.alloc(size, 'kernel') })
  const onDisk = (directory: string) =>
    Number(execFileSync('du', ['-s', '-B1', directory]).toString().split('\t')[0])

  test('is known to the server after each change', async () => {
    const world = makeWorld({ needed: () => new Set(world.ids.slice(-1)) })
    try {
      assert.equal(world.bytes(), 0)
      for (const size of [3, 1]) {
        plantKernel(world, size * megabyte)
        world.request(requestFor(toplevel, `size-${size}`))
        await world.answerTo(`size-${size}`)
        assert.equal(world.bytes(), onDisk(world.published))
      }
    } finally {
      await world.close()
    }
  })

  test('leaves the room on the disk that is kept for the server', () => {
    const directory = freshName()
    mkdirSync(directory)
    const { bavail, bsize } = statfsSync(directory)
    const space = { total: 0, free: 0, available: 0, files: 0, freeFiles: 0 }
    const take = openPublishRoom({ space: () => space }, directory)
    take({ files: 1, bytes: megabyte })
    // Other programs write to the disk, too. The floor is at least a megabyte.
    const bytes = bavail * bsize - megabyte / 2
    assert.throws(() => take({ files: 1, bytes }), { code: 'ENOSPC' })
  })

  test('is not needed for an answer: a machine without any room left gets it', async () => {
    const limit = 16 * megabyte
    const before = makeWorld({}, [], limit)
    try {
      plant(before.fileSystem, `${folder}/request`, { file: requestFor(toplevel) })
      fillUp(before.fileSystem)
      before.notice()
      await before.answerTo('one')
    } finally {
      await before.close()
    }
    const meanwhile: World = makeWorld(
      {
        take() {
          fillUp(meanwhile.fileSystem)
          return Promise.resolve({ keep: [], says: ['This is generation 1.'] })
        },
      },
      [],
      limit,
    )
    try {
      meanwhile.request(requestFor(toplevel))
      assert.match(await meanwhile.answerTo('one'), /status published\nsay This is generation 1/)
    } finally {
      await meanwhile.close()
    }
  })

  // The server copies the files first, and then makes the boot files.
  test('is no more than the machine has left of its limit', async () => {
    const world = makeWorld({}, [], 32 * megabyte)
    try {
      plantKernel(world, 12 * megabyte)
      world.request(requestFor(toplevel, 'large'))
      assert.match(
        await world.answerTo('large'),
        /status refused\nsay .* need more room than this machine has left: \d+ bytes\.\nsay Run nix-collect-garbage/,
      )
      assert.deepEqual(readdirSync(world.published), [])
      plantKernel(world, megabyte)
      world.request(requestFor(toplevel, 'small'))
      assert.match(await world.answerTo('small'), /status published/)
    } finally {
      await world.close()
    }
  })
})

test('the server knows whether a system tells that its boot is good', async () => {
  const world = makeWorld()
  try {
    const unit = `${toplevel}/etc/systemd/system/netimage-bless.service`
    plant(world.fileSystem, '/units/bless', { file: '[Service]' })
    plant(world.fileSystem, '/dev/null', { special: 'character' })
    for (const target of ['/units/bless', '/dev/null', '/missing']) {
      plant(world.fileSystem, unit, { link: target })
      const id = target.replaceAll('/', '')
      world.request(requestFor(toplevel, id))
      await world.answerTo(id)
    }
    assert.deepEqual(world.blessing, [true, false, false])
  } finally {
    await world.close()
  }
})

// Without a limit, each request costs the server the time to make boot files.
test('a machine that asks 10,000 times gets only its latest request answered, and only now and then', async () => {
  mock.timers.enable({ apis: ['setTimeout'] })
  let [time, looks] = [0, 0]
  const world = makeWorld({
    now: () => time,
    known: () => {
      looks++
      return Promise.resolve({ why: 'it is bad' })
    },
  })
  const turn = async () => {
    const before = looks
    mock.timers.tick(0)
    for (let round = 0; round < 100; round++) await new Promise((resolve) => setImmediate(resolve))
    return looks - before
  }
  try {
    for (let id = 0; id < 5; id++) {
      world.request(requestFor(toplevel, `burst-${id}`))
      assert.equal(await turn(), 1)
    }
    plant(world.fileSystem, `${folder}/request`, { file: requestFor(toplevel, 'latest') })
    for (let count = 0; count < 10_000; count++) world.notice()
    assert.equal(await turn(), 0)
    assert.match(world.answer(), /^id burst-4\n/)
    time += 10_000
    mock.timers.tick(10_000)
    assert.equal(await turn(), 1)
    assert.match(world.answer(), /^id latest\nstatus refused/)
  } finally {
    await world.close()
    mock.timers.reset()
  }
})

test('an answer has one size, and leaves out sentences for which there is no room', () => {
  const says = ['First.', ...['é', 'x', 'y', 'z'].map((each) => each.repeat(5000)), 'Last.']
  const answer = formatAnswer({ id: 'one', status: 'refused', says })
  assert.equal(answer.length, answerBytes)
  const shown = says.slice(0, 4).map((sentence) => `say ${sentence.slice(0, 1000)}\n`)
  const text = `id one\nstatus refused\n${shown.join('')}`
  assert.ok(answer.toString().trimEnd() === text.trimEnd())
})

test('every text is a request or is refused', () => {
  const mutated = fc
    .record({ version: fc.constantFrom(1, 2, '1'), id: fc.string(), toplevel: fc.string() })
    .map((document) => JSON.stringify(document))
  fc.assert(
    fc.property(fc.oneof(fc.json(), fc.string(), mutated), (text) => {
      const parsed = parseRequest(text)
      if (!('toplevel' in parsed)) assert.ok(parsed.why)
      else assert.match(parsed.toplevel, /^\/nix\/store\/[^/]+$/)
    }),
  )
})
