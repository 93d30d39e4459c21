/**
 * The open files of boot trees. All transfers of a file share one descriptor, and the content of a small
 * file is kept in memory: machines ask for the same files, often at the same time. A file is closed soon
 * after it was used, because a deleted file takes its place on the disk until then.
 */
import { close, fstatSync, read, statSync, type BigIntStats } from 'node:fs'
import { promisify } from 'node:util'

export interface SharedFile {
  readonly fd: number
  /** Bytes. */
  readonly size: number
  /** Milliseconds since 1970. */
  readonly modified: number
  /** Changes if the content of the file may have changed. */
  readonly tag: string
  /** All bytes of a small file, as they were when `tag` was made. */
  readonly content: Buffer | undefined
}

interface Held {
  file: SharedFile
  stat: BigIntStats
  users: number
  /** The time of the last use, on the clock of `performance.now`. */
  used: number
  isDropped: boolean
}

const mostHeld = 64
const idleMs = 1000
const smallBytes = 1 << 16
/** A file that was written a moment ago may be written again without another time. Milliseconds. */
const settledMs = 2000

const readLater = promisify(read)

/** By the path that leads to the file. The first of them was not used for longest. */
const held = new Map<string, Held>()
let timer: NodeJS.Timeout | undefined

export interface SharedUse {
  file: SharedFile
  /** To be called once, when the file is not needed any more. */
  release: () => void
}

/** @returns undefined if the file is not open, or if the path leads to another file now */
export function useShared(path: string): SharedUse | undefined {
  const known = held.get(path)
  if (!known) return undefined
  if (isCurrent(known, path)) return use(path, known)
  drop(path, known)
  return undefined
}

/**
 * Shares a file that was opened for this path. Its descriptor is closed after its last use.
 *
 * @throws a system error; then the descriptor is still the caller's
 */
export async function share(path: string, fd: number, stat: BigIntStats): Promise<SharedUse> {
  const content = await contentOf(fd, stat)
  const [size, modified] = [Number(stat.size), Number(stat.mtimeMs)]
  const file = { fd, size, modified, tag: tagOf(stat), content }
  const other = held.get(path)
  if (other) drop(path, other)
  const own = { file, stat, users: 0, used: 0, isDropped: false }
  held.set(path, own)
  const shared = use(path, own)
  for (const [oldest, each] of held) {
    if (held.size <= mostHeld) break
    drop(oldest, each)
  }
  timer ??= setInterval(dropIdle, idleMs).unref()
  return shared
}

/** To be called if no descriptor is left. */
export function dropUnused(): void {
  for (const [path, each] of held) if (each.users === 0) drop(path, each)
}

/**
 * To be called before the end of a file is sent. A mix of old and new content is worse than a
 * failed transfer.
 */
export function hasChanged({ fd, tag, content }: SharedFile): boolean {
  return content === undefined && tagOf(fstatSync(fd, { bigint: true })) !== tag
}

function use(path: string, own: Held): SharedUse {
  own.users++
  own.used = performance.now()
  held.delete(path)
  held.set(path, own)
  const release = () => {
    own.users--
    if (own.isDropped) closeUnused(own)
  }
  return { file: own.file, release }
}

function drop(path: string, own: Held): void {
  held.delete(path)
  own.isDropped = true
  closeUnused(own)
}

function closeUnused({ users, file }: Held): void {
  // Nothing was written, so no error of `close` means a loss.
  if (users === 0) close(file.fd, () => {})
}

function dropIdle(): void {
  const before = performance.now() - idleMs
  for (const [path, each] of held) {
    if (each.users === 0 && each.used < before) drop(path, each)
  }
  if (held.size > 0) return
  clearInterval(timer)
  timer = undefined
}

/**
 * Whether the path still leads to the open file, and the file has not changed. It was in the boot tree when
 * it was opened. If a directory above it was moved out of the tree since then, and a link leads there, this
 * is still what was in the tree.
 */
function isCurrent({ file, stat }: Held, path: string): boolean {
  try {
    const now = statSync(path, { bigint: true })
    const isSame = compared.every((field) => now[field] === stat[field])
    return isSame && (file.content !== undefined || !isKeepable(stat))
  } catch {
    return false
  }
}

const compared = ['ino', 'dev', 'size', 'mtimeNs', 'ctimeNs'] as const

function isKeepable({ size, ctimeMs }: BigIntStats): boolean {
  return size <= smallBytes && Number(ctimeMs) < Date.now() - settledMs
}

/** @returns undefined if the file is not small, or has just changed */
async function contentOf(fd: number, stat: BigIntStats): Promise<Buffer | undefined> {
  if (!isKeepable(stat)) return undefined
  const content = Buffer.allocUnsafeSlow(Number(stat.size))
  const { bytesRead } = await readLater(fd, content, 0, content.length, 0)
  const isWhole = bytesRead === content.length
  return isWhole && tagOf(fstatSync(fd, { bigint: true })) === tagOf(stat) ? content : undefined
}

function tagOf({ ino, size, mtimeNs }: BigIntStats): string {
  return [ino, size, mtimeNs].map((part) => part.toString(16)).join('-')
}
