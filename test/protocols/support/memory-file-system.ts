// A file system in memory for the NFS server: like a layer, but without a disk.

import {
  FileSystemError,
  type AttributeChanges,
  type Attributes,
  type DirectoryEntry,
  type FileSystem,
  type FileSystemErrorCode,
  type NewNode,
  type NodeId,
  type Time,
} from '../../../src/protocols/nfs/file-system.ts'

type Node = {
  attributes: Attributes
  /** For a file: its bytes, and room to grow. */
  content: Buffer
  /** For a symlink. */
  target: Buffer
  /** For a directory, by name in Latin-1. */
  entries: Map<string, { node: NodeId; cookie: number }>
  /** The entries in the order of their cookies; set when they are first listed. */
  listing: DirectoryEntry[] | undefined
  parent: NodeId
}

export type MemoryFileSystem = FileSystem & {
  /** The number of waits for stable storage. */
  waits: { stable: number; commit: number }
  /** The error of `stable` and `commit` from now on; undefined: they succeed. */
  failure: FileSystemErrorCode | undefined
}

const maxFileBytes = 2 ** 31

export function createMemoryFileSystem(): MemoryFileSystem {
  const nodes = new Map<NodeId, Node>()
  const replies = new Map<string, Buffer>()
  let lastNode = 0
  let lastCookie = 0
  let lastTime = 0

  function now(): Time {
    // Strictly increasing, so that every change is visible.
    lastTime = Math.max(lastTime + 1, Date.now() * 1000)
    return { seconds: Math.floor(lastTime / 1e6), nanoseconds: (lastTime % 1e6) * 1000 }
  }

  function nodeOf(id: NodeId): Node {
    const node = nodes.get(id)
    if (!node) throw new FileSystemError('ESTALE', `node ${id} is gone`)
    return node
  }

  function directoryOf(id: NodeId): Node {
    const node = nodeOf(id)
    if (node.attributes.kind !== 'directory') throw failed('ENOTDIR')
    return node
  }

  function make(parent: NodeId | undefined, spec: NewNode): NodeId {
    const id = ++lastNode
    const { kind, mode, uid, gid, target = Buffer.alloc(0) } = spec
    const time = now()
    const attributes: Attributes = {
      ...{ id, kind, mode, uid, gid },
      links: kind === 'directory' ? 2 : 1,
      size: target.length,
      used: 0,
      device: spec.device ?? { major: 0, minor: 0 },
      accessed: spec.accessed ?? time,
      modified: spec.modified ?? time,
      changed: time,
    }
    const content = Buffer.alloc(0)
    nodes.set(id, {
      attributes,
      content,
      target,
      entries: new Map(),
      listing: undefined,
      parent: parent ?? id,
    })
    return id
  }

  function touch(node: Node, ...times: ('modified' | 'changed')[]): void {
    const time = now()
    for (const which of times) node.attributes[which] = time
  }

  function entryOf(directory: Node, name: Buffer): NodeId {
    const entry = directory.entries.get(name.toString('latin1'))
    if (!entry) throw failed('ENOENT')
    return entry.node
  }

  function addEntry(directory: Node, name: Buffer, node: NodeId): void {
    directory.entries.set(name.toString('latin1'), { node, cookie: ++lastCookie })
    directory.listing = undefined
    touch(directory, 'modified', 'changed')
  }

  function dropEntry(directory: Node, name: Buffer): void {
    directory.entries.delete(name.toString('latin1'))
    directory.listing = undefined
    touch(directory, 'modified', 'changed')
  }

  function unlink(node: Node): void {
    node.attributes.links--
    touch(node, 'changed')
    if (node.attributes.links === 0) nodes.delete(node.attributes.id)
  }

  function resize(node: Node, size: number): void {
    if (size > maxFileBytes) throw failed('EFBIG')
    if (size > node.content.length) {
      const larger = Buffer.alloc(Math.max(size, Math.min(maxFileBytes, 2 * node.content.length)))
      node.content.copy(larger)
      node.content = larger
    }
    node.content.fill(0, Math.min(size, node.attributes.size))
    node.attributes.size = size
    node.attributes.used = size
  }

  function isWithin(id: NodeId, ancestor: NodeId): boolean {
    for (let at = id; ; at = nodeOf(at).parent) {
      if (at === ancestor) return true
      if (at === root) return false
    }
  }

  const root = make(undefined, { kind: 'directory', mode: 0o755, uid: 0, gid: 0 })

  const system: MemoryFileSystem = {
    maxFileSize: maxFileBytes,
    waits: { stable: 0, commit: 0 },
    failure: undefined,
    root,
    attributes: (id) => ({ ...nodeOf(id).attributes }),
    lookup(id, name) {
      const directory = directoryOf(id)
      const text = name.toString('latin1')
      if (text === '.') return id
      if (text === '..') return directory.parent
      return directory.entries.get(text)?.node
    },
    read(id, offset, into) {
      const { content, attributes } = nodeOf(id)
      return content.copy(into, 0, Math.min(offset, attributes.size), attributes.size)
    },
    readLink: (id) => nodeOf(id).target,
    *list(id, cookie) {
      const directory = directoryOf(id)
      directory.listing ??= Array.from(directory.entries, ([name, entry]) => ({
        ...entry,
        name: Buffer.from(name, 'latin1'),
      }))
      const { listing } = directory
      let [low, high] = [0, listing.length]
      while (low < high) {
        const middle = (low + high) >> 1
        if ((listing[middle]?.cookie ?? 0) <= cookie) low = middle + 1
        else high = middle
      }
      for (let index = low; index < listing.length; index++) {
        const entry = listing[index]
        if (entry) yield entry
      }
    },
    setAttributes(id, { size, ...others }: AttributeChanges) {
      const node = nodeOf(id)
      if (size !== undefined) {
        resize(node, size)
        touch(node, 'modified')
      }
      Object.assign(node.attributes, others)
      touch(node, 'changed')
    },
    write(id, offset, data, mode) {
      const node = nodeOf(id)
      const end = offset + data.length
      if (end > maxFileBytes) throw failed('EFBIG')
      if (end > node.attributes.size) resize(node, end)
      node.content.set(data, offset)
      if (mode !== undefined) node.attributes.mode = mode
      touch(node, 'modified', 'changed')
    },
    create(id, name, spec) {
      const directory = directoryOf(id)
      if (directory.entries.has(name.toString('latin1'))) throw failed('EEXIST')
      const made = make(id, spec)
      addEntry(directory, name, made)
      if (spec.kind === 'directory') directory.attributes.links++
      return made
    },
    link(id, directoryId, name) {
      const node = nodeOf(id)
      const directory = directoryOf(directoryId)
      if (node.attributes.kind === 'directory') throw failed('EPERM')
      if (directory.entries.has(name.toString('latin1'))) throw failed('EEXIST')
      node.attributes.links++
      touch(node, 'changed')
      addEntry(directory, name, id)
    },
    remove(id, name) {
      const directory = directoryOf(id)
      const node = nodeOf(entryOf(directory, name))
      if (node.attributes.kind === 'directory') throw failed('EISDIR')
      dropEntry(directory, name)
      unlink(node)
    },
    removeDirectory(id, name) {
      const directory = directoryOf(id)
      const victim = directoryOf(entryOf(directory, name))
      if (victim.entries.size > 0) throw failed('ENOTEMPTY')
      dropEntry(directory, name)
      directory.attributes.links--
      nodes.delete(victim.attributes.id)
    },
    rename(fromId, name, toId, toName) {
      const from = directoryOf(fromId)
      const to = directoryOf(toId)
      const node = nodeOf(entryOf(from, name))
      const isDirectory = node.attributes.kind === 'directory'
      const existing = to.entries.get(toName.toString('latin1'))
      if (existing?.node === node.attributes.id) return
      if (isDirectory && isWithin(toId, node.attributes.id)) throw failed('EINVAL')
      if (existing) {
        const replaced = nodeOf(existing.node)
        const isReplacedDirectory = replaced.attributes.kind === 'directory'
        if (isReplacedDirectory && !isDirectory) throw failed('EISDIR')
        if (!isReplacedDirectory && isDirectory) throw failed('ENOTDIR')
        if (replaced.entries.size > 0) throw failed('ENOTEMPTY')
        if (isReplacedDirectory) system.removeDirectory(toId, toName)
        else system.remove(toId, toName)
      }
      dropEntry(from, name)
      addEntry(to, toName, node.attributes.id)
      touch(node, 'changed')
      node.parent = toId
      if (isDirectory) {
        from.attributes.links--
        to.attributes.links++
      }
    },
    space: () => ({
      total: 2 ** 33,
      free: 2 ** 32,
      available: 2 ** 31,
      files: 2 ** 20,
      freeFiles: 2 ** 19,
    }),
    async stable() {
      system.waits.stable++
      if (system.failure) throw failed(system.failure)
    },
    async commit() {
      system.waits.commit++
      if (system.failure) throw failed(system.failure)
    },
    together: (action) => action(),
    rememberReply: (key, reply) => void replies.set(key.toString('hex'), reply),
    recallReply: (key) => replies.get(key.toString('hex')),
  }
  return system
}

function failed(code: FileSystemErrorCode): FileSystemError {
  return new FileSystemError(code, code)
}
