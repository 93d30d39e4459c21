/**
 * Parses a NAR as a stream.
 *
 * The parser gets chunks of any size and calls the visitor for each complete part. Between chunks
 * it keeps at most one name or symlink target. It is stricter than Nix: entries must be in strictly
 * increasing byte order, and nothing may follow the end.
 */
import { NetimageError } from '../../errors.ts'
import { maxDepth, maxNameBytes, maxTargetBytes, paddingOf, words } from './format.ts'

/**
 * Gets the nodes of a NAR, in the order of the NAR. Names are bytes, not text. The name of the root
 * is empty. Buffers are valid only during the call.
 */
export interface NarVisitor {
  directory(name: Buffer): void
  directoryEnd(): void
  symlink(name: Buffer, target: Buffer): void
  /** @param size the number of bytes that `data` gets until `fileEnd` */
  file(name: Buffer, executable: boolean, size: number): void
  data(chunk: Buffer): void
  fileEnd(): void
}

export interface NarParser {
  write(chunk: Buffer): void
  /** Call this at the end of the stream. @throws if the NAR is not complete */
  end(): void
}

type State =
  | 'begin'
  | 'node'
  | 'executable or contents'
  | 'contents'
  | 'size'
  | 'data'
  | 'file end'
  | 'target word'
  | 'target'
  | 'entry or close'
  | 'name'
  | 'entry end'
  | 'done'

const noName = Buffer.alloc(0)
const zeros = Buffer.alloc(8)

/** The part of a NAR that the details of an error name. */
const fieldOf = { 'a file': 'size', 'a symlink target': 'target', 'an entry name': 'name' } as const

export function createNarParser(visitor: NarVisitor): NarParser {
  let state: State = 'begin'
  let chunk: Buffer = noName
  let cursor = 0
  /** The number of bytes before `chunk`, for the position in an error. */
  let consumed = 0

  let name: Buffer = noName
  let executable = false
  let dataLeft = 0
  let padding = 0
  /** The last entry name of each open directory. The next name must be greater. */
  const lastNames: Buffer[] = []

  function broken(why: string, field = 'node'): NetimageError {
    const message = `the NAR is broken at byte ${consumed + cursor}: ${why}`
    return new NetimageError('bad-nar', message, { details: { field } })
  }

  const available = () => chunk.length - cursor

  /** Whether `run` is at the cursor. If it is, moves the cursor behind it. */
  function take(run: Buffer): boolean {
    const end = cursor + run.length
    if (run.compare(chunk, cursor, end) !== 0) return false
    cursor = end
    return true
  }

  function readSize(what: keyof typeof fieldOf): number {
    const low = chunk.readUInt32LE(cursor)
    const high = chunk.readUInt32LE(cursor + 4)
    const size = high * 2 ** 32 + low
    if (!Number.isSafeInteger(size))
      throw broken(`${what} claims ${high} * 2^32 bytes`, fieldOf[what])
    return size
  }

  /** A string of 1 to `limit` bytes. @returns undefined until string and padding are complete */
  function takeString(what: keyof typeof fieldOf, limit: number): Buffer | undefined {
    if (available() < 8) return undefined
    const size = readSize(what)
    if (size < 1 || size > limit) throw broken(`${what} of ${size} bytes`, fieldOf[what])
    const padded = size + paddingOf(size)
    if (available() < 8 + padded) return undefined
    const start = cursor + 8
    const text = chunk.subarray(start, start + size)
    if (text.includes(0)) throw broken(`${what} holds a NUL byte`, fieldOf[what])
    checkZeros(start + size, padded - size)
    cursor = start + padded
    return text
  }

  function checkZeros(start: number, count: number): void {
    if (zeros.compare(chunk, start, start + count, 0, count) !== 0) {
      throw broken('padding that is not zero', 'padding')
    }
  }

  function nodeEnd(): State {
    if (lastNames.length === 0) return 'done'
    return 'entry end'
  }

  function checkName(next: Buffer): void {
    if (next.includes(0x2f)) throw broken('an entry name with a slash', 'name')
    if (next.equals(dot) || next.equals(dotDot))
      throw broken(`an entry named "${next.toString()}"`, 'name')
    const last = lastNames.at(-1) ?? noName
    if (next.compare(last) <= 0) {
      throw broken(`the entry ${quote(next)} does not sort after ${quote(last)}`, 'name')
    }
  }

  /** Each step takes one complete part. @returns the next state, or undefined to wait for more */
  const steps: Record<State, () => State | undefined> = {
    begin() {
      if (available() < words.begin.length) return undefined
      if (!take(words.begin)) throw broken('it does not begin as a NAR does', 'magic')
      return 'node'
    },
    node() {
      if (available() < words.regular.length) return undefined
      if (take(words.regular)) return 'executable or contents'
      if (take(words.symlink)) return 'target word'
      if (available() < words.directory.length) return undefined
      if (!take(words.directory)) {
        throw broken('a node that is not a regular file, symlink or directory')
      }
      if (lastNames.length >= maxDepth) throw broken(`directories nested deeper than ${maxDepth}`)
      visitor.directory(name)
      lastNames.push(noName)
      return 'entry or close'
    },
    'executable or contents'() {
      executable = false
      if (available() < words.contents.length) return undefined
      if (take(words.contents)) return 'size'
      if (available() < words.executable.length) return undefined
      if (!take(words.executable)) throw broken('a regular file without contents')
      executable = true
      return 'contents'
    },
    contents() {
      if (available() < words.contents.length) return undefined
      if (!take(words.contents)) throw broken('a regular file without contents')
      return 'size'
    },
    size() {
      if (available() < 8) return undefined
      dataLeft = readSize('a file')
      padding = paddingOf(dataLeft)
      cursor += 8
      visitor.file(name, executable, dataLeft)
      return 'data'
    },
    data() {
      if (dataLeft > 0 && available() === 0) return undefined
      const size = Math.min(dataLeft, available())
      if (size > 0) visitor.data(chunk.subarray(cursor, cursor + size))
      cursor += size
      dataLeft -= size
      return dataLeft > 0 ? 'data' : 'file end'
    },
    'file end'() {
      if (available() < padding + words.close.length) return undefined
      checkZeros(cursor, padding)
      cursor += padding
      if (!take(words.close)) throw broken('a regular file that does not end')
      visitor.fileEnd()
      return nodeEnd()
    },
    'target word'() {
      if (available() < words.target.length) return undefined
      if (!take(words.target)) throw broken('a symlink without a target')
      return 'target'
    },
    target() {
      const start = cursor
      const target = takeString('a symlink target', maxTargetBytes)
      if (!target) return undefined
      if (available() < words.close.length) {
        cursor = start
        return undefined
      }
      if (!take(words.close)) throw broken('a symlink that does not end')
      visitor.symlink(name, target)
      return nodeEnd()
    },
    'entry or close'() {
      if (available() < words.close.length) return undefined
      if (take(words.close)) {
        lastNames.pop()
        visitor.directoryEnd()
        return nodeEnd()
      }
      if (available() < words.entry.length) return undefined
      if (!take(words.entry)) throw broken('a directory that neither goes on nor ends')
      return 'name'
    },
    name() {
      const start = cursor
      const next = takeString('an entry name', maxNameBytes)
      if (!next) return undefined
      if (available() < words.node.length) {
        cursor = start
        return undefined
      }
      if (!take(words.node)) throw broken('an entry without a node')
      checkName(next)
      // Copy the name: the caller may overwrite the chunk before the next comparison.
      name = Buffer.from(next)
      lastNames[lastNames.length - 1] = name
      return 'node'
    },
    'entry end'() {
      if (available() < words.close.length) return undefined
      if (!take(words.close)) throw broken('an entry that does not end')
      return 'entry or close'
    },
    done() {
      if (available() > 0) throw broken('bytes after the end', 'end')
      return undefined
    },
  }

  return {
    write(next) {
      chunk = chunk.length > 0 ? Buffer.concat([chunk, next]) : next
      for (;;) {
        const after = steps[state]()
        if (after === undefined) break
        state = after
      }
      // Copy the rest for the next call: the caller may reuse its chunk.
      const rest = chunk.subarray(cursor)
      consumed += cursor
      chunk = rest.length > 0 ? Buffer.from(rest) : noName
      cursor = 0
    },
    end() {
      if (state !== 'done') throw broken('it is cut off', 'end')
    },
  }
}

const dot = Buffer.from('.')
const dotDot = Buffer.from('..')

function quote(name: Buffer): string {
  return JSON.stringify(name.toString())
}
