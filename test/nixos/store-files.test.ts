import assert from 'node:assert/strict'
import {
  lstatSync,
  mkdirSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { beforeEach, suite, test } from 'node:test'
import fc from 'fast-check'
import { baseNameOf } from '../../src/nix/store-path.ts'
import { findStoreFile, listStoreDirectory, readStoreText } from '../../src/nixos/store-files.ts'
import type { TreeOf } from '../../src/nixos/store-files.ts'
import { netimageError } from '../support/errors.ts'
import { storePath } from '../support/path-infos.ts'
import { filterThrough } from '../support/programs.ts'
import { temporaryDirectory } from '../support/temporary.ts'

const root = join(temporaryDirectory(), 'root')
const store = join(root, 'nix/store')
const one = storePath(`/nix/store/${'1'.repeat(32)}-one`)
const two = storePath(`/nix/store/${'2'.repeat(32)}-two`)
const absent = storePath(`/nix/store/${'3'.repeat(32)}-absent`)

const treeOf: TreeOf = (path) => {
  return Promise.resolve(path === absent ? undefined : join(store, baseNameOf(path)))
}

const realOf = (path: string) => join(root, path)

function write(path: string, contents: string | Buffer = 'text'): void {
  mkdirSync(dirname(realOf(path)), { recursive: true })
  writeFileSync(realOf(path), contents)
}

function link(path: string, target: string): void {
  mkdirSync(dirname(realOf(path)), { recursive: true })
  symlinkSync(target, realOf(path))
}

beforeEach(() => {
  rmSync(root, { recursive: true, force: true })
  mkdirSync(store, { recursive: true })
})

async function assertFound(path: string, expected: string, kind = 'file'): Promise<void> {
  assert.deepEqual(await findStoreFile(treeOf, path), {
    path: expected,
    real: realOf(expected),
    kind,
  })
}

async function assertNothing(path: string): Promise<void> {
  assert.equal(await findStoreFile(treeOf, path), undefined, path)
}

suite('a file is found', () => {
  test('without any link', async () => {
    write(`${one}/directory/file`)
    await assertFound(`${one}/directory/file`, `${one}/directory/file`)
    await assertFound(`${one}//directory/./file`, `${one}/directory/file`)
    await assertFound(`${one}/directory/../directory/file`, `${one}/directory/file`)
    await assertFound(`${one}/directory`, `${one}/directory`, 'directory')
    await assertFound(one, one, 'directory')
    await assertFound(`${one}/`, one, 'directory')
  })

  test('if it is a store path itself', async () => {
    write(one)
    await assertFound(one, one)
    await assertNothing(`${one}/below`)
    await assertNothing(`${one}/.`)
    await assertNothing(`${one}/`)
  })

  test('behind links of every kind', async () => {
    write(`${two}/file`)
    write(`${one}/real/file`)
    link(`${one}/absolute`, `${two}/file`)
    link(`${one}/relative`, 'real/file')
    link(`${one}/real/up`, '../real/file')
    link(`${one}/out`, `../${baseNameOf(two)}/file`)
    link(`${one}/directory`, two)
    link(`${one}/chain`, 'directory')
    link(`${one}/here`, '.')
    link(`${one}/real/parent`, '..')
    await assertFound(`${one}/absolute`, `${two}/file`)
    await assertFound(`${one}/relative`, `${one}/real/file`)
    await assertFound(`${one}/real/up`, `${one}/real/file`)
    await assertFound(`${one}/out`, `${two}/file`)
    await assertFound(`${one}/directory/file`, `${two}/file`)
    await assertFound(`${one}/chain/file`, `${two}/file`)
    await assertFound(`${one}/here/here/real/file`, `${one}/real/file`)
    await assertFound(`${one}/here`, one, 'directory')
    await assertFound(`${one}/real/parent`, one, 'directory')
    await assertFound(`${one}/real/parent/relative`, `${one}/real/file`)
  })

  test('if a store path is a link', async () => {
    write(`${two}/file`)
    link(one, two)
    await assertFound(`${one}/file`, `${two}/file`)
    await assertFound(one, two, 'directory')
  })

  test('by ".." after a link, which means the parent of the link’s target', async () => {
    write(`${two}/deep/er/file`)
    write(`${two}/deep/beside`)
    write(`${one}/beside`, 'where the link lies')
    link(`${one}/link`, `${two}/deep/er`)
    link(`${one}/around`, 'link/../beside')
    await assertFound(`${one}/link/../beside`, `${two}/deep/beside`)
    await assertFound(`${one}/around`, `${two}/deep/beside`)
  })

  test('through the store and back', async () => {
    write(`${two}/file`)
    mkdirSync(realOf(one))
    link(`${one}/round`, `../../../../nix/store/../../nix/store/${baseNameOf(two)}/file`)
    await assertFound(`${one}/round`, `${two}/file`)
  })
})

suite('nothing is found', () => {
  test('at a path that does not exist', async () => {
    write(`${one}/file`)
    await assertNothing(`${one}/other`)
    await assertNothing(`${one}/file/below`)
    await assertNothing(`${one}/file/..`)
    await assertNothing(two)
    await assertNothing(`${absent}/file`)
  })

  test('outside of the store, although this machine has the file', async () => {
    mkdirSync(realOf(one))
    link(`${one}/passwd`, '/etc/passwd')
    link(`${one}/up`, '../../../etc/passwd')
    link(`${one}/far-up`, `${'../'.repeat(40)}etc/passwd`)
    link(`${one}/root`, '/')
    link(`${one}/store`, '..')
    link(`${one}/elsewhere`, '/nix/var')
    const paths = [
      ['passwd', 'up', 'far-up', 'root', 'store', 'elsewhere', 'root/etc/passwd'],
      ['..', '../..', '../../../etc/passwd', 'store/..', 'root/tmp'],
    ].flat()
    for (const path of paths) await assertNothing(`${one}/${path}`)
    for (const path of [
      '/',
      '/nix',
      '/nix/store',
      '/etc/passwd',
      '',
      'etc',
      root,
      '/nix/store/x',
    ]) {
      await assertNothing(path)
    }
  })

  test('behind a link that leads nowhere, or to a store path that is missing', async () => {
    link(`${one}/dangling`, 'nowhere')
    link(`${one}/absent`, `${absent}/file`)
    link(`${one}/empty`, '/nix/store/')
    for (const name of ['dangling', 'absent', 'empty']) await assertNothing(`${one}/${name}`)
  })

  test('at a node that is neither a file nor a directory', async () => {
    mkdirSync(realOf(one))
    await filterThrough('mkfifo', [realOf(`${one}/pipe`)])
    await assertNothing(`${one}/pipe`)
  })
})

suite('links', () => {
  test('that form a circle are an error', async () => {
    link(`${one}/itself`, 'itself')
    link(`${one}/first`, 'second')
    link(`${one}/second`, 'first')
    link(`${one}/longer`, 'longer/x')
    link(`${one}/across`, `${two}/across`)
    link(`${two}/across`, `${one}/across`)
    for (const name of ['itself', 'first', 'longer', 'across', 'itself/file']) {
      await assert.rejects(
        findStoreFile(treeOf, `${one}/${name}`),
        netimageError('bad-system', { path: `${one}/${name}`, expected: 40 }),
      )
    }
  })

  test('may be many, up to the limit of the kernel', async () => {
    write(`${one}/0`)
    for (let number = 1; number <= 41; number++) link(`${one}/${number}`, String(number - 1))
    await assertFound(`${one}/40`, `${one}/0`)
    await assert.rejects(
      findStoreFile(treeOf, `${one}/41`),
      netimageError('bad-system', { expected: 40 }),
    )
  })
})

test('links lead to the same places as in the kernel', async () => {
  const name = fc.constantFrom('a', 'b', 'c')
  const step = fc.constantFrom('a', 'b', 'c', '..', '.', baseNameOf(one), baseNameOf(two))
  const place = fc.tuple(fc.constantFrom(one, two), fc.array(name, { minLength: 1, maxLength: 3 }))
  const target = fc.array(step, { minLength: 1, maxLength: 5 })
  const node = fc.record({
    place,
    kind: fc.constantFrom('file', 'directory', 'link', 'link'),
    target,
  })
  let found = 0
  await fc.assert(
    fc.asyncProperty(
      fc.array(node, { minLength: 5, maxLength: 20 }),
      fc.array(fc.tuple(fc.constantFrom(one, two), target), { minLength: 10, maxLength: 10 }),
      async (nodes, questions) => {
        rmSync(root, { recursive: true, force: true })
        mkdirSync(realOf(one), { recursive: true })
        mkdirSync(realOf(two), { recursive: true })
        for (const { place, kind, target } of nodes) {
          const [path, names] = place
          makeInTree(realOf(path), names, kind, target.join('/'))
        }
        for (const [path, names] of questions) {
          const question = `${path}/${names.join('/')}`
          const expected = byTheKernel(question)
          if (expected === 'a circle') {
            await assert.rejects(findStoreFile(treeOf, question), netimageError('bad-system'))
            continue
          }
          const file = await findStoreFile(treeOf, question)
          assert.deepEqual(file && { path: file.path, kind: file.kind }, expected, question)
          if (file) found++
        }
      },
    ),
    { numRuns: 80 },
  )
  assert.ok(found > 50, `${found} were found`)
})

/** Makes a node inside the tree: never through a link, and never over another node. */
function makeInTree(tree: string, names: string[], kind: string, target: string): void {
  let path = tree
  for (const name of names.slice(0, -1)) {
    path = join(path, name)
    const stat = lstatSync(path, { throwIfNoEntry: false })
    if (!stat) mkdirSync(path)
    else if (!stat.isDirectory()) return
  }
  path = join(path, names.at(-1) ?? '')
  if (lstatSync(path, { throwIfNoEntry: false })) return
  if (kind === 'file') writeFileSync(path, '')
  else if (kind === 'directory') mkdirSync(path)
  else symlinkSync(target, path)
}

/**
 * Links in these trees are relative, so they lead to the same place without chroot. The path must
 * reach the kernel as it is: Node's `join` would resolve "..".
 */
function byTheKernel(path: string): { path: string; kind: string } | 'a circle' | undefined {
  try {
    const real = realpathSync.native(`${root}${path}`)
    const inRoot = real.slice(realpathSync.native(root).length)
    if (!inRoot.startsWith(one) && !inRoot.startsWith(two)) return undefined
    return { path: inRoot, kind: statSync(real).isDirectory() ? 'directory' : 'file' }
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ELOOP') return 'a circle'
    return undefined
  }
}

suite('texts and directories', () => {
  test('a text behind links', async () => {
    write(`${two}/file`, 'héllo\n')
    link(`${one}/link`, `${two}/file`)
    assert.equal(await readStoreText(treeOf, `${one}/link`), 'héllo\n')
  })

  test('no text if there is no file', async () => {
    write(`${one}/directory/file`)
    assert.equal(await readStoreText(treeOf, `${one}/directory`), undefined)
    assert.equal(await readStoreText(treeOf, `${one}/nothing`), undefined)
    assert.equal(await readStoreText(treeOf, `${absent}/file`), undefined)
  })

  test('a file that is too large to be a text', async () => {
    write(`${one}/large`, Buffer.alloc((16 << 20) + 1))
    await assert.rejects(
      readStoreText(treeOf, `${one}/large`),
      netimageError('bad-system', { path: `${one}/large`, actual: 16_777_217 }),
    )
  })

  test('the names in a directory, sorted', async () => {
    for (const name of ['b', 'a', 'Z', '10', '9']) write(`${two}/directory/${name}`)
    link(`${one}/link`, `${two}/directory`)
    assert.deepEqual(await listStoreDirectory(treeOf, `${one}/link`), ['10', '9', 'Z', 'a', 'b'])
    assert.deepEqual(await listStoreDirectory(treeOf, `${one}/nothing`), [])
    assert.deepEqual(await listStoreDirectory(treeOf, `${two}/directory/a`), [])
  })
})
