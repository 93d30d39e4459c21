// Any image that is added to a site is the same image for the roots of machines.

import assert from 'node:assert/strict'
import * as fs from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { formatManifest } from '../../../src/image/manifest.ts'
import { createImageIndexes, type ImageIndex } from '../../../src/roots/image-index.ts'
import { structureInSteps } from '../../../src/roots/image-table.ts'
import { doNow } from '../../../src/roots/steps.ts'
import type { LayerImage } from '../../../src/roots/layer-image.ts'
import { rootNode } from '../../../src/roots/numbers.ts'
import { readRootImage, type RootImage } from '../../../src/roots/root-image.ts'
import { addImage } from '../../../src/site/images/add-image.ts'
import { listTree } from '../../../src/tree-files.ts'
import { numbered } from '../../roots/support/numbered.ts'
import { inventPath, narHashOf, narOf, type Tree } from '../../support/synthetic.ts'
import { freshNames, temporaryDirectory } from '../../support/temporary.ts'

const freshName = freshNames(temporaryDirectory())

/** Also of the tree of a store path, which may be a file or a link. */
function writeTree(at: string, tree: Tree): void {
  if ('link' in tree) fs.symlinkSync(tree.link, at)
  else if ('file' in tree) {
    fs.writeFileSync(at, tree.file)
    fs.chmodSync(at, tree.executable ? 0o555 : 0o444)
  } else {
    fs.mkdirSync(at)
    for (const [name, child] of Object.entries(tree.directory)) writeTree(join(at, name), child)
    fs.chmodSync(at, 0o555)
  }
  fs.lutimesSync(at, 1, 1)
}

/** Every file that a machine sees: its path, attributes, and contents. */
function seenIn(index: ImageIndex): string[] {
  const image = numbered(index)
  const lines: string[] = []
  const see = (directory: number, path: string) => {
    for (let place = 0; ; place++) {
      const child = image.childAt(directory, place)
      if (!child) return
      const name = `${path}/${child.name.toString('latin1')}`
      lines.push(`${name} ${describe(image, child.node)}`)
      if (image.node(child.node)?.kind === 'directory') see(child.node, name)
    }
  }
  see(rootNode, '')
  return lines
}

function describe(image: LayerImage, id: number): string {
  const node = image.node(id)
  assert.ok(node)
  const { kind, mode, uid, gid, links, size, modified } = node
  const facts = [kind, mode.toString(8), uid, gid, links, modified.seconds].join(' ')
  // The file system decides the size of a directory.
  if (kind === 'directory') return facts
  if (kind === 'symlink') return `${facts} ${image.readLink(node).toString()}`
  const file = image.open(node)
  const contents = fs.readFileSync(file).toString('base64')
  fs.closeSync(file)
  return `${facts} ${size} ${contents}`
}

const name = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 8 }).filter(isFileName)

function isFileName(text: string): boolean {
  return !/[/\0]/.test(text) && text !== '.' && text !== '..' && Buffer.from(text).length < 200
}

const leaf: fc.Arbitrary<Tree> = fc.oneof(
  fc.record({ file: fc.string({ maxLength: 40 }), executable: fc.boolean() }),
  fc.record({
    link: fc.string({ minLength: 1, maxLength: 20 }).filter((to) => !to.includes('\0')),
  }),
)
const { tree } = fc.letrec<{ tree: Tree }>((tie) => ({
  tree: fc.oneof(
    { depthSize: 'small' },
    leaf,
    fc.record({ directory: fc.dictionary(name, tie('tree'), { maxKeys: 4 }) }),
  ),
}))
const directory = fc.dictionary(name, tree, { maxKeys: 3 })

async function writeImage(
  storePaths: readonly Tree[],
  outside: Record<string, Tree>,
  boot: Record<string, Tree>,
): Promise<string> {
  const image = freshName()
  const [root, bootTree] = [join(image, 'net-image/root'), join(image, 'net-image/boot')]
  const store = join(root, 'nix/store')
  for (const made of [store, bootTree, join(image, 'nix-support')]) {
    fs.mkdirSync(made, { recursive: true })
  }
  const paths = storePaths.map((tree, index) => ({ path: inventPath(`any-${index}`), tree }))
  for (const { path, tree } of paths) writeTree(join(root, path), tree)
  // Not the name of the directory that has the store.
  for (const [name, tree] of Object.entries(outside)) {
    if (name !== 'nix') writeTree(join(root, name), tree)
  }
  for (const [name, tree] of Object.entries(boot)) writeTree(join(bootTree, name), tree)
  for (const path of [store, dirname(store), root, bootTree]) fs.utimesSync(path, 1, 1)
  const stored = new Set(paths.map(({ path }) => path.slice(1)))
  const toplevel = inventPath('any-0')
  const manifest = formatManifest({
    version: 1,
    system: { toplevel, label: 'any', platform: 'x86_64-linux', entries: [], fileSystems: [] },
    options: {
      imageBaseName: 'any',
      rootDirectoryName: 'root',
      storePaths: [],
      nfsRoot: '127.0.0.1:/srv/any,v3',
      populateFirmwareCommands: '',
      populateRootCommands: '',
    },
    closure: paths.map(({ path, tree }) => {
      const nar = narOf(tree)
      return { path, narHash: narHashOf(nar), narSize: nar.length, references: [], public: false }
    }),
    root: {
      format: 'directory',
      owner: { uid: 0, gid: 0 },
      files: await listTree(root, (path) => stored.has(path)),
    },
    boot: { files: await listTree(bootTree, () => false) },
  })
  fs.writeFileSync(join(image, 'nix-support/net-image.json'), manifest)
  return image
}

test('roots over an image in a site have the same files as over its source', async () => {
  const state = freshName()
  const open = (image: RootImage) => createImageIndexes().open(image)
  await fc.assert(
    fc.asyncProperty(
      fc.array(tree, { minLength: 1, maxLength: 3 }),
      directory,
      directory,
      async (storePaths, outside, boot) => {
        const source = await writeImage(storePaths, outside, boot)
        const { image } = await addImage(state, source)
        using stack = new DisposableStack()
        stack.defer(() => image.release())
        const indexes = [
          open(readRootImage(source, join(source, 'net-image/root'))),
          open(image.rootImage),
        ]
        const [ofSource, ofSite] = indexes.map((index) => {
          stack.defer(() => index.close())
          // Layers of format 1 are migrated by the structure of all files together.
          return [doNow(structureInSteps(doNow(index.walkWhole()))), ...seenIn(index)]
        })
        assert.deepEqual(ofSite, ofSource)
        const bootFiles = await listTree(image.bootTree, () => false)
        assert.deepEqual(bootFiles, await listTree(join(source, 'net-image/boot'), () => false))
      },
    ),
    { numRuns: 8 },
  )
})
