/**
 * Copies files from the root of a machine to a directory of the server, for the code that makes boot
 * trees from files of this machine.
 *
 * The root can change while it is copied. So what a path is in the copy is remembered here, and never
 * read from the copy: a link that was copied is never followed, whatever the root shows later.
 */
import { mkdir, open, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'

import type { StoreFile } from '../../nixos/store-files.ts'
import type { NodeId } from '../../protocols/nfs/file-system.ts'
import type { Amount, Limit } from './limit.ts'
import {
  decodeName,
  entriesOf,
  findInStore,
  refused,
  type RootFile,
  type RootView,
} from './root-files.ts'

export interface Stage {
  /** Finds a file or directory of the store, and copies it if there is no copy yet. */
  find: (path: string) => Promise<StoreFile | undefined>
  /** The size of a copy, by the path in the store. */
  amountOf: (path: string) => Amount
}

/** The depth limit of a NAR. */
const maxDepth = 64
/** Kernels take no paths of more than 4095 bytes. */
const maxPathLength = 1000
/** A piece that is read without a pause. */
const pieceBytes = 256 * 1024

interface Copy {
  kind: 'file' | 'directory' | 'link'
  amount: Amount
  /** Whether everything below a directory has been copied. */
  isWhole: boolean
}

/** @param directory exists and is empty */
export function createStage(
  view: RootView,
  directory: string,
  limit: Limit,
  signal: AbortSignal,
): Stage {
  /** By the path in the root. */
  const copies = new Map<string, Copy>([['/', { ...emptyCopy('directory') }]])
  const piece = Buffer.alloc(pieceBytes)

  /** Makes the directory and those above it. */
  async function makeDirectory(path: string): Promise<Copy> {
    const known = copies.get(path)
    if (known?.kind === 'directory') return known
    if (known) throw changed(path)
    await makeDirectory(path.slice(0, path.lastIndexOf('/')) || '/')
    limit.take({ files: 1, bytes: 0 })
    await mkdir(join(directory, path), { mode: 0o700 })
    return add(path, 'directory')
  }

  function add(path: string, kind: Copy['kind'], bytes = 0): Copy {
    const copy = { ...emptyCopy(kind), amount: { files: 1, bytes } }
    copies.set(path, copy)
    return copy
  }

  async function copy({ path, node, attributes }: RootFile, depth: number): Promise<Copy> {
    // So that the server answers machines before the next piece of work.
    await turn()
    signal.throwIfAborted()
    const known = copies.get(path)
    if (known?.isWhole) return known
    if (depth > maxDepth || path.length > maxPathLength) throw refused(`${path} lies too deep`)
    switch (attributes.kind) {
      case 'directory':
        return await copyDirectory(path, node, depth)
      case 'file':
        if (known) throw changed(path)
        return await copyFile(path, node, attributes.size)
      case 'symlink': {
        if (known) throw changed(path)
        limit.take({ files: 1, bytes: 0 })
        await symlink(decodeName(view.readLink(node)), join(directory, path))
        return { ...add(path, 'link'), isWhole: true }
      }
      default:
        throw refused(`${path} is no file, directory or link: its type is ${attributes.kind}`)
    }
  }

  async function copyDirectory(path: string, node: NodeId, depth: number): Promise<Copy> {
    const made = await makeDirectory(path)
    const amount = { files: 1, bytes: 0 }
    for (const entry of entriesOf(view, { path, node })) {
      const attributes = view.attributes(entry.node)
      const child = { path: `${path}/${entry.name}`, node: entry.node, attributes }
      const copied = await copy(child, depth + 1)
      amount.files += copied.amount.files
      amount.bytes += copied.amount.bytes
    }
    return Object.assign(made, { amount, isWhole: true })
  }

  async function copyFile(path: string, node: NodeId, size: number): Promise<Copy> {
    limit.take({ files: 1, bytes: size })
    await using file = await open(join(directory, path), 'wx', 0o600)
    for (let at = 0; at < size;) {
      signal.throwIfAborted()
      const read = view.read(node, at, piece.subarray(0, Math.min(pieceBytes, size - at)))
      if (read === 0) throw changed(path)
      await file.writeFile(piece.subarray(0, read))
      at += read
    }
    return Object.assign(add(path, 'file', size), { isWhole: true })
  }

  return {
    async find(path) {
      await turn()
      const found = findInStore(view, path)
      if (!found) return undefined
      const above = found.path.slice(0, found.path.lastIndexOf('/'))
      await makeDirectory(above)
      const { kind } = await copy(found, 0)
      if (kind === 'link') throw changed(path)
      return { path: found.path, real: join(directory, found.path), kind }
    },
    amountOf: (path) => copies.get(path)?.amount ?? { files: 0, bytes: 0 },
  }
}

function emptyCopy(kind: Copy['kind']): Copy {
  return { kind, amount: { files: 0, bytes: 0 }, isWhole: false }
}

function changed(path: string) {
  return refused(`${path} changed while the server read it`)
}
