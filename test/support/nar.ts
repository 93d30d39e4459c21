// Makes NARs from the specification, without the tested code, and trees for them.

import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import fc from 'fast-check'
import { NetimageError } from '../../src/errors.ts'
import { createNarParser } from '../../src/nix/nar/parse.ts'
import type { NarVisitor } from '../../src/nix/nar/parse.ts'
import { narString } from './synthetic.ts'

export type NarNode =
  | { type: 'file'; executable: boolean; contents: Buffer }
  | { type: 'symlink'; target: Buffer }
  | { type: 'directory'; entries: NarEntry[] }

export type NarEntry = { name: Buffer; node: NarNode }

/** A wrong length for the string that follows. */
export function narLength(length: bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(length)
  return bytes
}

/** Strings one after another. They need not be a valid NAR. */
export function narStrings(...strings: (string | Buffer)[]): Buffer {
  return Buffer.concat(strings.map(narString))
}

/** A NAR with a directory as its root, with these strings between the parentheses. */
export function narDirectory(...strings: (string | Buffer)[]): Buffer {
  return narStrings('nix-archive-1', '(', 'type', 'directory', ...strings, ')')
}

/** The strings of an entry, for narDirectory. */
export function narEntry(name: string | Buffer, ...node: (string | Buffer)[]): (string | Buffer)[] {
  return ['entry', '(', 'name', name, 'node', '(', ...node, ')', ')']
}

export const emptyFile = ['type', 'regular', 'contents', '']

export function encodeNar(root: NarNode): Buffer {
  return narStrings('nix-archive-1', ...nodeStrings(root))
}

function nodeStrings(node: NarNode): (string | Buffer)[] {
  switch (node.type) {
    case 'file': {
      const executable = node.executable ? ['executable', ''] : []
      return ['(', 'type', 'regular', ...executable, 'contents', node.contents, ')']
    }
    case 'symlink':
      return ['(', 'type', 'symlink', 'target', node.target, ')']
    case 'directory': {
      const entries = node.entries.flatMap(({ name, node }) =>
        [['entry', '(', 'name', name, 'node'], nodeStrings(node), ')'].flat(),
      )
      return ['(', 'type', 'directory', ...entries, ')']
    }
  }
}

/** Builds a tree from the calls of the parser. @throws if the calls are inconsistent */
export function narCollector(): NarVisitor & { root: () => NarNode } {
  let root: NarNode | undefined
  const directories: NarEntry[][] = []
  let file: { contents: Buffer[]; left: number; executable: boolean; name: Buffer } | undefined

  function add(name: Buffer, node: NarNode): void {
    const directory = directories.at(-1)
    if (file) throw new Error('a node begins within a file')
    if (directory) directory.push({ name: Buffer.from(name), node })
    else if (root || name.length > 0) throw new Error('a second root, or one with a name')
    else root = node
  }

  return {
    directory(name) {
      const entries: NarEntry[] = []
      add(name, { type: 'directory', entries })
      directories.push(entries)
    },
    directoryEnd() {
      if (!directories.pop()) throw new Error('the end of a directory that never began')
    },
    symlink(name, target) {
      add(name, { type: 'symlink', target: Buffer.from(target) })
    },
    file(name, executable, left) {
      if (file) throw new Error('a file begins within a file')
      file = { contents: [], left, executable, name: Buffer.from(name) }
    },
    data(chunk) {
      if (!file || chunk.length > file.left) throw new Error('more data than was announced')
      file.contents.push(Buffer.from(chunk))
      file.left -= chunk.length
    },
    fileEnd() {
      if (file?.left !== 0) throw new Error('less data than was announced')
      const { name, executable, contents } = file
      file = undefined
      add(name, { type: 'file', executable, contents: Buffer.concat(contents) })
    },
    root() {
      if (!root || directories.length > 0 || file) throw new Error('the tree is not complete')
      return root
    },
  }
}

/** The tree that the parser reads from a NAR. @throws the parser's errors */
export function parseNar(pieces: Iterable<Buffer>): NarNode {
  const collector = narCollector()
  feedNar(pieces, collector)
  return collector.root()
}

export function feedNar(pieces: Iterable<Buffer>, visitor: NarVisitor): void {
  const parser = createNarParser(visitor)
  for (const piece of pieces) parser.write(piece)
  parser.end()
}

/** The parser's reason to refuse a NAR. @returns undefined if it accepts the NAR */
export function refusalOf(pieces: Iterable<Buffer>): string | undefined {
  try {
    parseNar(pieces)
    return undefined
  } catch (error) {
    if (error instanceof NetimageError && error.code === 'bad-nar') return error.message
    throw error
  }
}

/** Makes the tree on the disk with ordinary modes and times, not those of a Nix store. */
export function writeNode(path: Buffer, node: NarNode): void {
  switch (node.type) {
    case 'file':
      writeFileSync(path, node.contents, { mode: node.executable ? 0o755 : 0o644, flag: 'wx' })
      break
    case 'symlink':
      symlinkSync(node.target, path)
      break
    case 'directory':
      mkdirSync(path)
      for (const { name, node: child } of node.entries) {
        writeNode(Buffer.concat([path, Buffer.from('/'), name]), child)
      }
  }
}

const nameByte = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 0x61, max: 0x66 }) },
  { weight: 2, arbitrary: fc.constantFrom(0x0a, 0x20, 0x2e, 0x5c, 0x7e, 0x01) },
  { weight: 2, arbitrary: fc.integer({ min: 0x80, max: 0xff }) },
)

const nameBytes = fc.oneof(
  { weight: 20, arbitrary: fc.array(nameByte, { minLength: 1, maxLength: 12 }) },
  { weight: 1, arbitrary: fc.array(nameByte, { minLength: 250, maxLength: 255 }) },
)

/** Names as in a file system: bytes, not text. */
export const entryName = nameBytes
  .map((bytes) => Buffer.from(bytes))
  .filter((name) => name.toString() !== '.' && name.toString() !== '..')

const symlinkTarget = fc
  .array(fc.integer({ min: 1, max: 255 }), { minLength: 1, maxLength: 300 })
  .map((bytes) => Buffer.from(bytes))

const contents = fc.oneof(
  { weight: 6, arbitrary: fc.uint8Array({ maxLength: 40 }) },
  { weight: 1, arbitrary: fc.uint8Array({ minLength: 500, maxLength: 3000 }) },
)

const fileNode: fc.Arbitrary<NarNode> = fc
  .record({ executable: fc.boolean(), contents }, { noNullPrototype: true })
  .map(({ executable, contents }) => ({
    type: 'file',
    executable,
    contents: Buffer.from(contents),
  }))

const symlinkNode: fc.Arbitrary<NarNode> = symlinkTarget.map((target) => ({
  type: 'symlink',
  target,
}))

/** Trees of every kind, with entries in the order of a NAR. */
export const narNode: fc.Arbitrary<NarNode> = fc.letrec<{ node: NarNode; directory: NarNode }>(
  (tie) => ({
    node: fc.oneof(
      { maxDepth: 4, depthIdentifier: 'nar' },
      { weight: 3, arbitrary: fileNode },
      { weight: 1, arbitrary: symlinkNode },
      { weight: 4, arbitrary: tie('directory') },
    ),
    directory: fc
      .uniqueArray(fc.record({ name: entryName, node: tie('node') }, { noNullPrototype: true }), {
        selector: ({ name }) => name.toString('latin1'),
        maxLength: 6,
        depthIdentifier: 'nar',
      })
      .map((entries) => ({
        type: 'directory',
        entries: entries.toSorted((a, b) => a.name.compare(b.name)),
      })),
  }),
).node

/** Many trees in one, so that one run of a slow oracle checks all of them. */
export function inOneDirectory(nodes: readonly NarNode[]): NarNode {
  const entries = nodes.map((node, index) => {
    return { name: Buffer.from(String(index).padStart(6, '0')), node }
  })
  return { type: 'directory', entries }
}
