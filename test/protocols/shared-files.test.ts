// Machines share open files and the content of small ones, and never get an old or a strange file by it.

import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, readlinkSync, renameSync, rmSync, symlinkSync } from 'node:fs'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test, type TestContext } from 'node:test'
import fc from 'fast-check'
import { openBootFile, type OpenBootFile } from '../../src/protocols/boot-files.ts'
import { temporaryDirectory } from '../support/temporary.ts'
import { waitUntil } from '../support/waiting.ts'
import { textOf } from './support/file-text.ts'

const directory = temporaryDirectory()
const image = join(directory, 'image')
mkdirSync(image)

function open(name: string) {
  return openBootFile(() => ({ image }), { address: '10.0.0.1', protocol: 'http' }, name)
}

async function opened(name: string): Promise<OpenBootFile> {
  const found = await open(name)
  return found.kind === 'file' ? found : assert.fail(found.reason)
}

/** Otherwise a file that was just written is not kept. */
function advanceClock(context: TestContext): void {
  const { now } = Date
  context.mock.method(Date, 'now', () => now() + 60_000)
}

/** The files of the image that this process has open. */
function openFiles(): string[] {
  const links = readdirSync('/proc/self/fd').map((fd) => `/proc/self/fd/${fd}`)
  return links.flatMap((link) => (existsSync(link) ? [readlinkSync(link)] : []))
}

function countOpen(): number {
  return openFiles().filter((path) => path.startsWith(image)).length
}

suite('the open files of boot trees', () => {
  test('have one descriptor for all machines, and are closed soon after the last use', async () => {
    writeFileSync(join(image, 'kernel'), Buffer.alloc(100_000))
    const all = await Promise.all(Array.from({ length: 10 }, () => opened('kernel')))
    const later = await Promise.all(Array.from({ length: 10 }, () => opened('kernel')))
    assert.equal(new Set(later.map(({ file }) => file.fd)).size, 1)
    assert.ok(later.every(({ file }) => file.content === undefined))
    for (const { close } of all) close()
    const [last, ...others] = later
    for (const { close } of others) close()
    await waitUntil('only one is open', () => countOpen() === 1)
    assert.equal(last && textOf(last.file), '\0'.repeat(100_000))
    last?.close()
    await waitUntil('it is closed', () => countOpen() === 0)
  })

  test('are few, although each is used', async () => {
    const names = Array.from({ length: 200 }, (_, index) => `one-of-many-${index}`)
    for (const name of names) writeFileSync(join(image, name), name)
    for (const name of names) (await opened(name)).close()
    // Some are still closing.
    assert.ok(countOpen() < 100)
    for (const name of names) {
      const { file, close } = await opened(name)
      assert.equal(textOf(file), name)
      close()
    }
  })

  test('are kept in memory if they are small and were not just written', async (context) => {
    const [small, large] = [65_536, 65_537]
    writeFileSync(join(image, 'small'), Buffer.alloc(small, 's'))
    writeFileSync(join(image, 'large'), Buffer.alloc(large, 'l'))
    const fresh = await opened('small')
    assert.equal(fresh.file.content, undefined)
    fresh.close()
    advanceClock(context)
    const files = [await opened('small'), await opened('small'), await opened('large')]
    const [one, same] = files.map(({ file }) => file.content)
    assert.deepEqual(one?.length, small)
    assert.equal(one, same)
    assert.equal(files[2]?.file.content, undefined)
    for (const { close } of files) close()
  })

  test('are always those that the path leads to, with the content that they have', async (context) => {
    advanceClock(context)
    const names = ['a', 'b', 'folder/c'] as const
    const name = fc.constantFrom(...names)
    const steps = fc.oneof(
      fc.record({ kind: fc.constant('read'), name }),
      fc.record({ kind: fc.constantFrom('write', 'replace', 'remove', 'link', 'move'), name }),
    )
    let count = 0
    await fc.assert(
      fc.asyncProperty(fc.array(steps, { minLength: 5, maxLength: 40 }), async (all) => {
        mkdirSync(join(image, 'folder'), { recursive: true })
        for (const each of names) writeFileSync(join(image, each), `${each} at first`)
        for (const step of all) {
          const path = join(image, step.name)
          // Each has another length: the clock of the kernel may not go on between two changes.
          const content = 'x'.repeat(++count)
          if (step.kind === 'write') writeFileSync(path, content)
          if (step.kind === 'replace') {
            writeFileSync(join(directory, 'new'), content)
            renameSync(join(directory, 'new'), path)
          }
          if (step.kind === 'remove') rmSync(path, { force: true })
          if (step.kind === 'link') {
            rmSync(join(image, 'a'), { force: true })
            symlinkSync('b', join(image, 'a'))
          }
          if (step.kind === 'move' && existsSync(join(image, 'b'))) {
            renameSync(join(image, 'b'), join(image, 'folder/c'))
          }
          const found = await open(step.name)
          assert.equal(found.kind === 'file', existsSync(path))
          if (found.kind !== 'file') continue
          assert.equal(textOf(found.file), readFileSync(path, 'utf8'))
          found.close()
        }
        for (const each of names) rmSync(join(image, each), { force: true })
      }),
      { numRuns: 200 },
    )
  })

  test('are not read through a link that leads out of the tree since then', async (context) => {
    advanceClock(context)
    const outside = join(directory, 'outside')
    mkdirSync(join(image, 'public'))
    writeFileSync(join(image, 'public', 'file'), 'public')
    const before = await opened('public/file')
    renameSync(join(image, 'public'), outside)
    symlinkSync(outside, join(image, 'public'))
    writeFileSync(join(outside, 'file'), 'secret')
    writeFileSync(join(outside, 'other'), 'secret')
    assert.deepEqual((await open('public/file')).kind, 'refused')
    assert.deepEqual((await open('public/other')).kind, 'refused')
    before.close()
  })
})
