/**
 * Finds files in the root of a machine, as the machine itself would find them: links lead to other
 * places of this root only. Everything in the root is hostile. It can also change between two calls.
 */
import { setImmediate as turn } from 'node:timers/promises'

import { NetimageError } from '../../errors.ts'
import { splitStorePath } from '../../nix/store-path.ts'
import type { StoreFiles } from '../../nixos/store-files.ts'
import {
  FileSystemError,
  type Attributes,
  type FileSystem,
  type NodeId,
} from '../../protocols/nfs/file-system.ts'

/** The part of a root that is needed to read it. */
export type RootView = Pick<
  FileSystem,
  'root' | 'attributes' | 'lookup' | 'read' | 'readLink' | 'list'
>

export interface RootFile {
  /** The absolute path without links. */
  path: string
  node: NodeId
  attributes: Attributes
}

const maxLinks = 40
/** Many more than the longest way to a file of a system. It bounds the time of one call. */
const maxSteps = 400
const maxTargetBytes = 4096
/** Larger than every text of a system that is read here. The text is parsed in one piece. */
const maxTextBytes = 256 * 1024
/** More than any directory of a system that is read here. */
const maxNames = 4096

/**
 * Follows all links, like the kernel of a machine that has this root.
 *
 * @returns undefined if nothing is there
 * @throws `NetimageError` `bad-system` for links that lead in a circle, and for ways that are too long
 */
export function resolveInRoot(view: RootView, path: string): RootFile | undefined {
  const walked: { name: string; node: NodeId }[] = []
  const names = path.split('/')
  let [links, steps] = [0, 0]
  const here = () => walked.at(-1)?.node ?? view.root
  for (let name = names.shift(); name !== undefined; name = names.shift()) {
    if (++steps > maxSteps) throw refused(`the way to ${path} has more than ${maxSteps} steps`)
    // Also before a dot or a slash at the end: `file/.` leads nowhere.
    if (view.attributes(here()).kind !== 'directory') return undefined
    if (name === '' || name === '.') continue
    if (name === '..') {
      walked.pop()
      continue
    }
    const node = view.lookup(here(), Buffer.from(name))
    if (node === undefined) return undefined
    if (view.attributes(node).kind !== 'symlink') {
      walked.push({ name, node })
      continue
    }
    if (++links > maxLinks) throw refused(`${path} leads through more than ${maxLinks} links`)
    const target = targetOf(view, node, path)
    // As on Linux, where an empty target leads nowhere.
    if (target === '') return undefined
    if (target.startsWith('/')) walked.length = 0
    names.unshift(...target.split('/'))
  }
  const resolved = `/${walked.map(({ name }) => name).join('/')}`
  return { path: resolved, node: here(), attributes: view.attributes(here()) }
}

function targetOf(view: RootView, link: NodeId, path: string): string {
  const target = view.readLink(link)
  if (target.length > maxTargetBytes) throw refused(`a link on the way to ${path} is too long`)
  return decodeName(target)
}

/**
 * The file or directory in the store of the machine.
 *
 * @returns undefined if nothing is there
 * @throws `NetimageError` `bad-system` if the path leads out of the store, or is of another kind
 */
export function findInStore(view: RootView, path: string): RootFile | undefined {
  const found = resolveInRoot(view, path)
  if (!found) return undefined
  if (!splitStorePath(found.path)) {
    const where = found.path === path ? '' : ` leads to ${found.path}, which`
    throw refused(`${path}${where} is not in the store`)
  }
  const { kind } = found.attributes
  if (kind === 'file' || kind === 'directory') return found
  throw refused(`${path} is neither a file nor a directory: its type is ${kind}`)
}

/** The files of a system in the root of a machine, for the readers that builds use. */
export function storeFilesInRoot(view: RootView): StoreFiles {
  const find = async (path: string) => {
    await turn()
    return findInStore(view, path)
  }
  return {
    async find(path) {
      const found = await find(path)
      const isFile = found?.attributes.kind === 'file'
      return found && { path: found.path, kind: isFile ? 'file' : 'directory' }
    },
    async text(path) {
      const found = await find(path)
      return found?.attributes.kind === 'file' ? readText(view, found, path) : undefined
    },
    async names(directory) {
      const found = await find(directory)
      return found?.attributes.kind === 'directory'
        ? entriesOf(view, found)
            .map(({ name }) => name)
            .sort()
        : []
    },
  }
}

function readText(view: RootView, { node, attributes: { size } }: RootFile, path: string): string {
  if (size > maxTextBytes) {
    throw refused(`${path} has ${size} bytes, but at most ${maxTextBytes} are read`)
  }
  const text = Buffer.alloc(size)
  return text.toString('utf8', 0, view.read(node, 0, text))
}

/** @throws `NetimageError` `bad-system` if a name is no file name, or there are too many */
export function entriesOf(
  view: RootView,
  { path, node }: Pick<RootFile, 'path' | 'node'>,
): { name: string; node: NodeId }[] {
  const entries: { name: string; node: NodeId }[] = []
  for (const entry of view.list(node, 0)) {
    if (entries.length === maxNames) throw refused(`${path} has more than ${maxNames} names`)
    const name = decodeName(entry.name)
    if (/^\.{0,2}$|[/\0]/.test(name)) throw refused(`${path} has a name that no file can have`)
    entries.push({ name, node: entry.node })
  }
  return entries
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** The readers of systems work with text. A name of a system is always UTF-8. */
export function decodeName(bytes: Buffer): string {
  try {
    return strictUtf8.decode(bytes)
  } catch (error) {
    throw new NetimageError(
      'bad-system',
      `the name ${JSON.stringify(bytes.toString('latin1'))} is not UTF-8`,
      { cause: error },
    )
  }
}

/** The same root. Its errors say whether the machine or the server is the reason. */
export function withReasons(view: RootView): RootView {
  return {
    root: view.root,
    attributes: (node) => reading(() => view.attributes(node)),
    lookup: (directory, name) => reading(() => view.lookup(directory, name)),
    read: (file, offset, into) => reading(() => view.read(file, offset, into)),
    readLink: (link) => reading(() => view.readLink(link)),
    list: (directory, cookie) => entriesWithReasons(view.list(directory, cookie)),
  }
}

function* entriesWithReasons<T>(entries: Iterable<T>): Generator<T> {
  const iterator = entries[Symbol.iterator]()
  for (;;) {
    const next = reading(() => iterator.next())
    if (next.done) return
    yield next.value
  }
}

/** Errors of the server's disk. Other errors come from changes of the machine meanwhile. */
const ofServer: ReadonlySet<string> = new Set(['EIO', 'EAGAIN'])

function reading<T>(read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (!(error instanceof FileSystemError)) throw error
    const { code } = error
    const why = `the root of the machine could not be read (${code})`
    throw new NetimageError(ofServer.has(code) ? 'file-system' : 'bad-system', why, {
      ...{ cause: error, hint: 'Run nixos-rebuild again.' },
    })
  }
}

/**
 * The reason lies in the machine's root.
 *
 * @param hint what the person can do who runs nixos-rebuild on the machine
 */
export function refused(why: string, hint?: string): NetimageError {
  return new NetimageError('bad-system', why, { hint })
}
