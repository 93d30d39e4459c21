// Runs the same operations on a layer and on a real directory of this machine's kernel.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  closeSync,
  existsSync,
  fstatSync,
  ftruncateSync,
  lchownSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
  writeSync,
  type Stats,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import fc from 'fast-check'
import type {
  DirectoryEntry,
  FileSystem,
  NodeId,
  NodeKind,
} from '../../../src/protocols/nfs/file-system.ts'
import { type ImageIndex } from '../../../src/roots/image-index.ts'
import { openLayer } from './open-layer.ts'
import { createPathCache } from '../../../src/roots/path-cache.ts'
import { verifyLayer } from '../../../src/roots/verify.ts'
import { removeTree } from '../../../src/remove-tree.ts'
import { createIndex } from './tree-index.ts'

type Path = readonly Buffer[]

/** A name, or an existing one in its place: otherwise most operations would find nothing. */
interface Part {
  name: Buffer
  present: number | undefined
}

type Step<Path = readonly Buffer[]> =
  | { do: 'file' | 'directory'; path: Path; mode: number }
  | { do: 'symlink'; path: Path; target: string }
  | { do: 'write'; path: Path; offset: number; length: number; byte: number }
  | { do: 'truncate'; path: Path; size: number }
  | { do: 'chmod'; path: Path; mode: number }
  | { do: 'chown'; path: Path; uid: number; gid: number }
  | { do: 'times'; path: Path; seconds: number }
  | { do: 'link' | 'rename'; path: Path; to: Path }
  | { do: 'unlink' | 'rmdir' | 'read'; path: Path }

type Operation = Step<readonly Part[]> | { do: 'restart' | 'compare' }

const isRoot = process.geteuid?.() === 0
const names = [...['a', 'b', 'c', 'd'], Buffer.from([0xff, 0x61]), 'n'.repeat(255)]
const part = fc.record({
  name: fc.constantFrom(...names.map((name) => Buffer.from(name))),
  present: fc.option(fc.nat(100), { nil: undefined, freq: 4 }),
})
const path = fc.array(part, {
  ...{ minLength: 1, maxLength: 4, size: 'max' },
})
const mode = fc.constantFrom(0o644, 0o755, 0o1777, 0o400, 0o000)
const offset = fc.oneof(fc.nat(30_000), fc.constantFrom(0, 4096, 65_536, 2 ** 32 + 5))

const operation: fc.Arbitrary<Operation> = fc.oneof(
  { weight: 30, arbitrary: fc.record({ do: fc.constantFrom('file', 'directory'), path, mode }) },
  {
    weight: 10,
    arbitrary: fc.record({ do: fc.constant('symlink'), path, target: fc.string({ minLength: 1 }) }),
  },
  {
    weight: 25,
    arbitrary: fc.record({
      ...{ do: fc.constant('write'), path, offset },
      ...{ length: fc.nat(9000), byte: fc.nat(255) },
    }),
  },
  { weight: 10, arbitrary: fc.record({ do: fc.constant('truncate'), path, size: offset }) },
  { weight: 10, arbitrary: fc.record({ do: fc.constant('chmod'), path, mode }) },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('times'), path, seconds: fc.nat(100_000) }) },
  { weight: 45, arbitrary: fc.record({ do: fc.constantFrom('link', 'rename'), path, to: path }) },
  { weight: 25, arbitrary: fc.record({ do: fc.constantFrom('unlink', 'rmdir', 'read'), path }) },
  {
    weight: isRoot ? 5 : 0,
    arbitrary: fc.record({ do: fc.constant('chown'), path, uid: fc.nat(9), gid: fc.nat(9) }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('restart', 'compare') }) },
)

function operations(length: number): fc.Arbitrary<Operation[]> {
  return fc.array(operation, { minLength: 1, maxLength: length, size: 'max' })
}

/** A tree that is used for both: as the image, and as the first content of the real directory. */
function makeModelTree(root: string): void {
  for (const name of ['a', 'a/b', 'a/b/c', 'b', 'c']) mkdirSync(join(root, name))
  const contents = Buffer.alloc(20_000, 'image')
  for (const name of ['a/a', 'a/b/a', 'a/b/c/d', 'b/a', 'd'])
    writeFileSync(join(root, name), contents)
  writeFileSync(join(root, 'b/b'), '')
  symlinkSync('../nowhere', join(root, 'a/c'))
  linkSync(join(root, 'd'), join(root, 'b/d'))
  linkSync(join(root, 'd'), join(root, 'a/b/d'))
  execFileSync('mkfifo', [join(root, 'b/c')])
  for (const name of ['d', 'a/a', 'a/c', 'a/b/c/d', 'a/b/c', 'a/b', 'a', 'b', 'c', '']) {
    lutimesSync(join(root, name), 5000, 5000)
  }
  chmodSync(join(root, 'd'), 0o444)
}

/** In memory if possible: these tests need no real disk. */
export function modelDirectory(): string {
  const memory = '/dev/shm'
  const directory = mkdtempSync(join(existsSync(memory) ? memory : tmpdir(), 'netimage-test-'))
  after(() => removeTree(directory))
  return directory
}

/** Where the operations are done: in the root, or in the store of an image with store paths. */
type Where = 'root' | 'store'

interface ModelRun {
  image: string
  where: Where
  /** Paths that do not exist yet: of the layer, and of the real directory. */
  layer: string
  real: string
}

/** @param operations the most in each run; the average is half of it */
export async function runModels(
  directory: string,
  { runs, operations: length, where = 'root' }: { runs: number; operations: number; where?: Where },
): Promise<void> {
  const image = join(directory, `image-${where}`)
  mkdirSync(join(image, places[where]), { recursive: true })
  makeModelTree(join(image, places[where]))
  const before = describeReal(image)
  let run = 0
  await fc.assert(
    fc.asyncProperty(operations(length), async (all) => {
      const here = join(directory, `${where}-${++run}`)
      const [layer, real] = [`${here}-layer`, `${here}-real`]
      try {
        await runModel(all, { image, where, layer, real })
      } finally {
        for (const made of [layer, real]) removeTree(made)
      }
    }),
    { numRuns: runs },
  )
  assert.deepEqual(describeReal(image), before, 'the image was written to')
}

/** @throws `AssertionError` if the layer does not do the same as the kernel */
async function runModel(all: readonly Operation[], run: ModelRun): Promise<void> {
  const index = indexOf(run)
  // In store paths, names of hard links are files of their own.
  const links = run.where === 'store' ? ['--no-preserve=links'] : []
  execFileSync('cp', ['-a', ...links, join(run.image, places[run.where]), run.real])
  mkdirSync(run.layer)
  let layer = openLayer(run.layer, index)
  const system = () => startingAt(layer.fileSystem, places[run.where])
  const compare = () => {
    assert.deepEqual(describeLayer(system()), describeReal(run.real))
  }
  try {
    for (const [number, step] of all.entries()) {
      switch (step.do) {
        case 'restart':
          await layer.close()
          assert.deepEqual(verifyLayer(run.layer, index).problems, [])
          layer = openLayer(run.layer, index)
          break
        case 'compare':
          compare()
          break
        default: {
          const settled = settle(system(), step)
          const inLayer = outcome(() => doInLayer(system(), settled))
          const real = outcome(() => doForReal(Buffer.from(run.real), settled))
          assert.deepEqual(inLayer, real, `step ${number}: ${JSON.stringify(settled)}`)
        }
      }
    }
    compare()
  } finally {
    await layer.close()
  }
  assertWhole(run.layer, index)
}

const places: Record<Where, string> = { root: '.', store: 'nix/store' }

/** Some names of the store are store paths. The memory is too small for three of them. */
function indexOf({ image, where }: ModelRun): ImageIndex {
  const storePaths = ['a', 'b', 'd'].map((name) => ({ name, narHash: `sha256:${name}` }))
  const options = where === 'store' ? { storePaths, cache: createPathCache(6) } : {}
  return createIndex('model', image, options)
}

/** The same file system with another directory as its root. */
function startingAt(system: FileSystem, path: string): FileSystem {
  const names = path.split('/').filter((name) => name !== '.')
  const root = names.reduce(
    (node, name) => system.lookup(node, Buffer.from(name)) ?? assert.fail(name),
    system.root,
  )
  return { ...system, root }
}

function assertWhole(layer: string, index: ImageIndex): void {
  assert.deepEqual(verifyLayer(layer, index).problems, [])
}

function settle(system: FileSystem, step: Step<readonly Part[]>): Step {
  const path = namesOf(system, step.path)
  return 'to' in step ? { ...step, path, to: namesOf(system, step.to) } : { ...step, path }
}

function namesOf(system: FileSystem, parts: readonly Part[]): Buffer[] {
  const names: Buffer[] = []
  let node: NodeId | undefined = system.root
  for (const { name, present } of parts) {
    const isDirectory: boolean = node !== undefined && system.attributes(node).kind === 'directory'
    if (!isDirectory && node !== undefined && present !== undefined) break
    const entries: DirectoryEntry[] =
      node === undefined || !isDirectory ? [] : [...system.list(node, 0)]
    const there = present === undefined ? undefined : entries[present % entries.length]
    names.push(there?.name ?? name)
    node = there?.node ?? entries.find((entry) => entry.name.equals(name))?.node
  }
  return names
}

function outcome(action: () => unknown): unknown {
  try {
    return action()
  } catch (error) {
    if (error instanceof Error && 'code' in error) return error.code
    throw error
  }
}

class Refused extends Error {
  readonly code: string
  constructor(code: string) {
    super(code)
    this.code = code
  }
}

const lastOf = (parts: Path): Buffer => parts.at(-1) ?? Buffer.alloc(0)

function doInLayer(system: FileSystem, step: Step): unknown {
  const find = (parts: Path): NodeId => {
    let node = system.root
    for (const part of parts) {
      const child = system.lookup(node, part)
      if (child === undefined) throw new Refused('ENOENT')
      node = child
    }
    return node
  }
  const parent = (parts: Path): NodeId => {
    const node = find(parts.slice(0, -1))
    if (system.attributes(node).kind !== 'directory') throw new Refused('ENOTDIR')
    return node
  }
  const directory = parent(step.path)
  const name = lastOf(step.path)
  const made = { uid: 0, gid: 0 }
  switch (step.do) {
    case 'file':
    case 'directory':
      system.create(directory, name, { kind: step.do, mode: step.mode, ...made })
      break
    case 'symlink': {
      const target = Buffer.from(step.target)
      system.create(directory, name, { kind: 'symlink', mode: 0o777, ...made, target })
      break
    }
    case 'write':
      system.write(find(step.path), step.offset, Buffer.alloc(step.length, step.byte))
      break
    case 'truncate':
      system.setAttributes(find(step.path), { size: step.size })
      break
    case 'chmod':
      mustBeNoLink(system.attributes(find(step.path)).kind)
      system.setAttributes(find(step.path), { mode: step.mode })
      break
    case 'chown':
      system.setAttributes(find(step.path), { uid: step.uid, gid: step.gid })
      break
    case 'times': {
      const time = { seconds: step.seconds, nanoseconds: 0 }
      system.setAttributes(find(step.path), { accessed: time, modified: time })
      break
    }
    case 'link':
    case 'rename': {
      const node = step.do === 'link' ? find(step.path) : undefined
      const toDirectory = parent(step.to)
      if (node === undefined) system.rename(directory, name, toDirectory, lastOf(step.to))
      else system.link(node, toDirectory, lastOf(step.to))
      break
    }
    case 'unlink': {
      const node = find(step.path)
      const { links } = system.attributes(node)
      system.remove(directory, name)
      if (links === 1) assert.throws(() => system.attributes(node), { code: 'ESTALE' })
      break
    }
    case 'rmdir': {
      const node = find(step.path)
      system.removeDirectory(directory, name)
      assert.throws(() => system.attributes(node), { code: 'ESTALE' })
      break
    }
    case 'read':
      return layerContents(system, find(step.path))
  }
  return undefined
}

function doForReal(root: Buffer, step: Step): unknown {
  const at = (parts: Path) => Buffer.concat([root, ...parts.flatMap((part) => [slash, part])])
  const parent = (parts: Path) => {
    for (let length = 1; length < parts.length; length++) {
      if (!lstatSync(at(parts.slice(0, length))).isDirectory()) throw new Refused('ENOTDIR')
    }
  }
  parent(step.path)
  const place = at(step.path)
  switch (step.do) {
    case 'file':
      closeSync(openSync(place, 'wx', step.mode))
      chmodSync(place, step.mode)
      break
    case 'directory':
      mkdirSync(place)
      chmodSync(place, step.mode)
      break
    case 'symlink':
      symlinkSync(Buffer.from(step.target), place)
      break
    case 'write':
    case 'truncate': {
      const kind = kindOf(lstatSync(place))
      if (kind !== 'file') throw new Refused(kind === 'directory' ? 'EISDIR' : 'EINVAL')
      const file = openSync(place, 'r+')
      try {
        if (step.do === 'truncate') ftruncateSync(file, step.size)
        else writeSync(file, Buffer.alloc(step.length, step.byte), 0, step.length, step.offset)
      } finally {
        closeSync(file)
      }
      break
    }
    case 'chmod':
      mustBeNoLink(kindOf(lstatSync(place)))
      chmodSync(place, step.mode)
      break
    case 'chown':
      lchownSync(place, step.uid, step.gid)
      break
    case 'times':
      lutimesSync(place, step.seconds, step.seconds)
      break
    case 'link':
      lstatSync(place)
      parent(step.to)
      linkSync(place, at(step.to))
      break
    case 'rename':
      parent(step.to)
      renameSync(place, at(step.to))
      break
    case 'unlink':
      unlinkSync(place)
      break
    case 'rmdir':
      rmdirSync(place)
      break
    case 'read': {
      const kind = kindOf(lstatSync(place))
      if (kind !== 'file') throw new Refused(kind === 'directory' ? 'EISDIR' : 'EINVAL')
      return realContents(place)
    }
  }
  return undefined
}

/** The kernel cannot change the modes of symbolic links. */
function mustBeNoLink(kind: NodeKind): void {
  if (kind === 'symlink') throw new Refused('EINVAL')
}

const slash = Buffer.from('/')
/** Of large files with holes, reads only the end. */
const shownBytes = 100_000

function layerContents(system: FileSystem, node: NodeId): string {
  const { kind } = system.attributes(node)
  const size = kind === 'file' ? system.attributes(node).size : 0
  const bytes = Buffer.alloc(Math.min(size, shownBytes) + 10)
  const count = system.read(node, Math.max(0, size - shownBytes), bytes)
  return bytes.toString('latin1', 0, count)
}

function realContents(place: Buffer): string {
  const file = openSync(place, 'r')
  try {
    const { size } = fstatSync(file)
    const bytes = Buffer.alloc(Math.min(size, shownBytes))
    const count = readSync(file, bytes, 0, bytes.length, size - bytes.length)
    return bytes.toString('latin1', 0, count)
  } finally {
    closeSync(file)
  }
}

type Described = Record<string, unknown>

/** Keys are paths, as latin1. */
function describeLayer(system: FileSystem): Described {
  const described: Described = {}
  const inodes = new Map<NodeId, string>()
  const visit = (node: NodeId, at: string) => {
    const { kind, mode: bits, uid, gid, links, size, modified } = system.attributes(node)
    const isFirst = !inodes.has(node)
    if (isFirst) inodes.set(node, at)
    described[at] = {
      ...{ kind, bits, links, sameAs: inodes.get(node) },
      ...(isRoot && { uid, gid }),
      modified: modified.seconds < 1e6 ? modified : 'now',
      ...(kind === 'file' && { size, contents: isFirst ? layerContents(system, node) : '' }),
      ...(kind === 'symlink' && { target: system.readLink(node).toString('latin1') }),
    }
    if (kind !== 'directory') return
    const entries = [...system.list(node, 0)].sort((a, b) => a.name.compare(b.name))
    for (const { name, node: child } of entries) {
      assert.equal(system.lookup(node, name), child)
      visit(child, `${at}/${name.toString('latin1')}`)
    }
  }
  visit(system.root, '')
  return described
}

function describeReal(root: string): Described {
  const described: Described = {}
  const inodes = new Map<number, string>()
  const visit = (place: Buffer, at: string): boolean => {
    const stat = lstatSync(place)
    const kind = kindOf(stat)
    const isFirst = !inodes.has(stat.ino)
    if (isFirst) inodes.set(stat.ino, at)
    const seconds = Math.floor(stat.mtimeMs / 1000)
    const entry: Described = {
      ...{ kind, bits: stat.mode & 0o7777, links: stat.nlink, sameAs: inodes.get(stat.ino) },
      ...(isRoot && { uid: stat.uid, gid: stat.gid }),
      modified: seconds < 1e6 ? { seconds, nanoseconds: 0 } : 'now',
    }
    described[at] = entry
    if (kind === 'file') {
      entry['size'] = stat.size
      entry['contents'] = isFirst ? realContents(place) : ''
    }
    if (kind === 'symlink') {
      entry['target'] = readlinkSync(place, { encoding: 'buffer' }).toString('latin1')
    }
    if (kind !== 'directory') return false
    const children = readdirSync(place, { encoding: 'buffer' }).sort((a, b) => a.compare(b))
    const below = children.map((name) =>
      visit(Buffer.concat([place, slash, name]), `${at}/${name.toString('latin1')}`),
    )
    // Some file systems do not count the links of directories.
    entry['links'] = 2 + below.filter(Boolean).length
    return true
  }
  visit(Buffer.from(root), '')
  return described
}

function kindOf(stat: Stats): NodeKind {
  if (stat.isDirectory()) return 'directory'
  if (stat.isFile()) return 'file'
  if (stat.isSymbolicLink()) return 'symlink'
  return 'fifo'
}
