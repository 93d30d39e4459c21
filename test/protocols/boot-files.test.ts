import assert from 'node:assert/strict'
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import promises from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { NetimageError } from '../../src/errors.ts'
import { openBootFile, type Requester, type TreesOf } from '../../src/protocols/boot-files.ts'
import { hasChanged } from '../../src/protocols/shared-files.ts'
import { filterThrough } from '../support/programs.ts'
import { temporaryDirectory } from '../support/temporary.ts'
import { textOf } from './support/file-text.ts'

const directory = temporaryDirectory()
const image = join(directory, 'image')
const own = join(directory, 'own')
writeTree(image, ['start4.elf', 'cmdline.txt', 'nixos/kernel', '0badcafe/only-here'], 'image')
writeTree(own, ['cmdline.txt'], 'own')
writeFileSync(join(directory, 'secret'), 'secret')
symlinkSync('nixos/kernel', join(image, 'inside'))
symlinkSync('../secret', join(image, 'outside'))
symlinkSync('/etc', join(image, 'absolute'))
symlinkSync('loop', join(image, 'loop'))
await filterThrough('mkfifo', [join(image, 'fifo')])

function writeTree(tree: string, files: readonly string[], content: string): void {
  for (const file of files) {
    mkdirSync(join(tree, file, '..'), { recursive: true })
    writeFileSync(join(tree, file), `${content} ${file}`)
  }
}

const serial = '1a2b3c4d'
const mac = 'dc:a6:32:01:02:03'
const address = '10.0.0.7'

/** One machine has files of its own, and can be named by serial number, MAC or IP address. */
function treesOf(asking: Requester) {
  const name = asking.serial ?? asking.mac ?? asking.ip ?? asking.address
  const isIt = [serial, mac, address].includes(name)
  return isIt ? { own, image } : { image }
}

async function contentOf(
  name: string,
  from = '10.0.0.1',
  trees: TreesOf = treesOf,
): Promise<string> {
  const found = await openBootFile(trees, { address: from, protocol: 'tftp' }, name)
  if (found.kind !== 'file') return found.kind
  const text = textOf(found.file)
  found.close()
  return text
}

suite('the file that a machine asks for', () => {
  for (const [name, content] of [
    ['start4.elf', 'image start4.elf'],
    ['/start4.elf', 'image start4.elf'],
    ['//nixos/./kernel', 'image nixos/kernel'],
    ['inside', 'image nixos/kernel'],
    [`${serial}/cmdline.txt`, 'own cmdline.txt'],
    [`/${serial.toUpperCase()}/cmdline.txt`, 'own cmdline.txt'],
    [`${serial}/nixos/kernel`, 'image nixos/kernel'],
    ['dc-a6-32-01-02-03/cmdline.txt', 'own cmdline.txt'],
    ['01-dc-a6-32-01-02-03/cmdline.txt', 'own cmdline.txt'],
    ['01-DC-A6-32-01-02-03/start4.elf', 'image start4.elf'],
    ['10.0.0.7/cmdline.txt', 'own cmdline.txt'],
    // These machines are not known: they ask again without the folder.
    ['ffffffff/start4.elf', 'missing'],
    ['01-02-03-04-05-06/start4.elf', 'missing'],
    ['10.0.0.8/start4.elf', 'missing'],
    ['0badcafe/only-here', 'image 0badcafe/only-here'],
    ['none', 'missing'],
    ['nixos', 'missing'],
    ['start4.elf/', 'image start4.elf'],
    ['start4.elf/below', 'missing'],
    ['x'.repeat(300), 'missing'],
    ['fifo', 'missing'],
    ['outside', 'refused'],
    ['absolute/passwd', 'refused'],
    ['loop', 'unreadable'],
    ['../secret', 'refused'],
    ['nixos/../../secret', 'refused'],
    ['nixos/../start4.elf', 'refused'],
    ['..\\secret', 'refused'],
    ['start4.elf\0', 'refused'],
    ['', 'refused'],
    ['/', 'refused'],
    ['a/'.repeat(600), 'refused'],
  ] as const) {
    test(`${JSON.stringify(name.slice(0, 40))}: ${content}`, async () => {
      assert.equal(await contentOf(name), content)
    })
  }

  test('is the machine’s own file before that of its image, by the IP address of the request', async () => {
    assert.equal(await contentOf('cmdline.txt', address), 'own cmdline.txt')
    assert.equal(await contentOf('start4.elf', address), 'image start4.elf')
  })

  test('is refused to a machine that is not served', async () => {
    assert.equal(await contentOf('start4.elf', address, () => undefined), 'not-served')
  })

  for (const [code, kind] of [
    ['in-use', 'busy'],
    ['image-damaged', 'unreadable'],
  ] as const) {
    test(`is ${kind} if its image cannot be used: ${code}`, async () => {
      const trees = () => Promise.reject(new NetimageError(code, 'not now'))
      assert.equal(await contentOf('start4.elf', address, trees), kind)
    })
  }

  test('is always in the tree, for any name', async () => {
    const part = fc.oneof(
      fc.constantFrom('..', '.', '', 'nixos', 'secret', 'outside', 'absolute', 'passwd', 'own'),
      fc.constantFrom(serial, '%2e%2e', '.. ', '...', '\\..', '~', 'image', 'etc'),
      fc.string({ maxLength: 6 }),
    )
    await fc.assert(
      fc.asyncProperty(fc.array(part, { maxLength: 6 }), async (parts) => {
        const content = await contentOf(parts.join('/'))
        assert.match(content, /^(image|own) |^(missing|refused|unreadable)$/)
      }),
      { numRuns: 1000 },
    )
  })

  test('is refused if a directory becomes a link just before it is opened', async (context) => {
    const elsewhere = join(directory, 'elsewhere')
    writeTree(elsewhere, ['racing'], 'secret')
    writeTree(image, ['folder/racing'], 'image')
    const { realpath } = promises
    context.mock.method(promises, 'realpath', async (path: string) => {
      const real = await realpath(path)
      if (real.endsWith('folder/racing')) {
        renameSync(join(image, 'folder'), join(image, 'moved'))
        symlinkSync(elsewhere, join(image, 'folder'))
      }
      return real
    })
    syncBuiltinESMExports()
    try {
      assert.equal(await contentOf('folder/racing'), 'refused')
    } finally {
      context.mock.restoreAll()
      syncBuiltinESMExports()
      for (const name of ['folder', 'moved']) rmSync(join(image, name), { recursive: true })
    }
  })

  test('has changed if it was written to, but not if it was replaced', async () => {
    const file = join(image, 'changing')
    writeFileSync(file, 'before')
    const found = await openBootFile(treesOf, { address, protocol: 'tftp' }, 'changing')
    assert.equal(found.kind, 'file')
    writeFileSync(join(directory, 'replacement'), 'replacement')
    renameSync(join(directory, 'replacement'), file)
    const replaced = await openBootFile(treesOf, { address, protocol: 'tftp' }, 'changing')
    assert.equal(replaced.kind, 'file')
    assert.notEqual(replaced.file.tag, found.file.tag)
    assert.deepEqual([found.file, replaced.file].map(hasChanged), [false, false])
    writeFileSync(file, 'after that')
    assert.deepEqual([found.file, replaced.file].map(hasChanged), [false, true])
    found.close()
    replaced.close()
  })
})
