/**
 * Answers the requests of machines to publish a system. A machine may ask as often as it likes: only
 * its latest request is answered, and only now and then.
 */
import { rm, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import pLimit from 'p-limit'

import { asNetimageError, fileSystemError, NetimageError } from '../../errors.ts'
import type { StorePath } from '../../nix/store-path.ts'
import type { FileSystem } from '../../protocols/nfs/file-system.ts'
import type { PublishImage } from './boot-tree.ts'
import { remember } from '../../remember.ts'
import { findNode, readSmallFile } from '../../roots/find-node.ts'
import { measurePublished, publish, type Published } from './published.ts'
import {
  answerName,
  formatAnswer,
  isFinalAnswer,
  maxRequestBytes,
  parseRequest,
  publishDirectory,
  requestName,
  type Answer,
  type Refusal,
  type Request,
} from './request.ts'

export interface PublishRoot {
  fileSystem: FileSystem
  image: PublishImage
}

export interface Taken {
  /** Systems that the machine must keep in its store, so that it can go back to them. */
  keep: readonly StorePath[]
  /** The generation, and what happens next: sentences for the person who runs nixos-rebuild. */
  says: readonly string[]
}

export interface PublishingSettings {
  /** The open root of a machine, and its present image. Undefined if it has none. */
  rootOf: (machine: string) => PublishRoot | undefined
  /** The directory for the published systems of a machine. */
  directoryOf: (machine: string) => string
  /**
   * The answer if no boot files are to be made: the machine boots an image of this system already, or
   * must not get this system.
   */
  known: (machine: string, toplevel: StorePath) => Promise<Taken | Refusal | undefined>
  /**
   * Makes a generation of the machine from the published system. The same published system may come
   * again: after a restart, or if the machine could not be told. Then it is the same generation. It
   * can be refused all the same: a person may have said that it is bad while it was made.
   */
  take: (machine: string, published: Published) => Promise<Taken | Refusal>
  /** The ids of all published systems that generations of the machine still need. */
  needed: (machine: string) => ReadonlySet<string>
  /**
   * Called before a machine is told that it does not get a system.
   *
   * @param toplevel undefined: the request could not be read
   */
  onRefused: (machine: string, toplevel: StorePath | undefined, why: string) => Promise<void>
  /** Called with errors that only the administrator of the server can mend. */
  onError: (error: NetimageError) => void
  /** Milliseconds. Default: a clock that is never set back. */
  now?: () => number
}

export interface Publishing {
  /** To be called for each operation of a machine in its root: finds new requests. */
  observe: (seen: { machine: string; procedure: string; name?: Buffer }) => void
  /** To be called when the root of a machine was opened: an earlier server may have been killed. */
  notice: (machine: string) => void
  /** How many bytes the published systems of the machine take on the disk. */
  bytesOf: (machine: string) => number
  /** Stops unfinished work. The next server goes on with it when it opens the root. */
  close: () => Promise<void>
}

const requestBytes = Buffer.from(requestName)

/** A machine may publish `burst` systems one after the other, and then one in each interval. */
const burst = 5
const intervalMs = 10_000

interface Asking {
  /** The time of the next turn, if the machine had one turn in each interval. */
  next: number
  /** Whether a turn is planned or under way. */
  isBusy: boolean
  /** Whether the machine asked again since its turn began. */
  isAgain: boolean
}

export function createPublishing(settings: PublishingSettings): Publishing {
  const {
    rootOf,
    directoryOf,
    known: knownOf,
    take,
    needed: neededOf,
    onRefused,
    onError,
  } = settings
  const now = settings.now ?? (() => performance.now())
  const asking = new Map<string, Asking>()
  /** Measured once after each change, because each layer with a limit asks often. */
  const measured = new Map<string, number>()
  const running = new Set<Promise<void>>()
  const timers = new Set<NodeJS.Timeout>()
  const ending = new AbortController()
  const { signal } = ending
  // One at a time, so that the work of this process takes the room of one system on the disk.
  const oneAtATime = pLimit(1)

  function notice(machine: string): void {
    if (signal.aborted) return
    const known = asking.get(machine)
    if (known?.isBusy) {
      known.isAgain = true
      return
    }
    const state = known ?? { next: 0, isBusy: false, isAgain: false }
    remember(asking, machine, state)
    plan(machine, state)
  }

  function plan(machine: string, state: Asking): void {
    state.isBusy = true
    state.isAgain = false
    const time = now()
    const due = Math.max(state.next, time)
    state.next = due + intervalMs
    const delay = Math.max(0, due - (burst - 1) * intervalMs - time)
    // Never at once: the caller may be in the middle of an operation on the root.
    const timer = setTimeout(() => {
      timers.delete(timer)
      const work = turn(machine)
        .catch((error: unknown) => {
          const doing = `could not answer ${machine}, which published a system`
          onError(asNetimageError(fileSystemError(doing, error)))
        })
        .finally(() => {
          running.delete(work)
          state.isBusy = false
          if (state.isAgain && !signal.aborted) plan(machine, state)
        })
      running.add(work)
    }, delay)
    timers.add(timer)
  }

  async function turn(machine: string): Promise<void> {
    const found = readRequest(rootOf(machine)?.fileSystem)
    if (found === undefined || 'why' in found) {
      if (!found) return
      await onRefused(machine, undefined, found.why)
      answer(machine, { id: found.id ?? 'unknown', ...refuse(found) })
      return
    }
    answer(machine, { id: found.id, status: 'working' })
    await oneAtATime(async () => {
      const root = rootOf(machine)
      if (!root) return
      const result = await resultOf(machine, root, found)
      // If the root was closed, the request is read again when it is opened, unless the machine has
      // started again meanwhile.
      const mayAnswer = () => isOpen(machine, root) && !signal.aborted
      if (!result || !mayAnswer()) return
      if ('why' in result) await onRefused(machine, found.toplevel, result.why)
      if (mayAnswer())
        answer(machine, { id: found.id, ...('why' in result ? refuse(result) : result) })
    })
  }

  function isOpen(machine: string, { fileSystem }: PublishRoot): boolean {
    return rootOf(machine)?.fileSystem === fileSystem
  }

  async function resultOf(
    machine: string,
    root: PublishRoot,
    { toplevel }: Request,
  ): Promise<Omit<Answer, 'id'> | Refusal | undefined> {
    const warnings: string[] = []
    try {
      const known = await knownOf(machine, toplevel)
      if (known) return 'why' in known ? known : { status: 'published', ...known }
      const published = await publish({
        ...{ view: root.fileSystem, image: root.image, toplevel, signal },
        directory: directoryOf(machine),
        warn: (message) => warnings.push(message),
      })
      if (!isOpen(machine, root)) {
        await removeUnneeded(machine)
        return undefined
      }
      const taken = await take(machine, published)
      if ('why' in taken) {
        await removeUnneeded(machine)
        return taken
      }
      const { keep, says } = taken
      await removeUnneeded(machine)
      const warned = warnings.map((warning) => `Warning: ${warning}`)
      return { status: 'published', keep, says: [...says, ...warned] }
    } catch (error) {
      return isOpen(machine, root) ? refusalFor(error) : undefined
    } finally {
      measured.delete(machine)
    }
  }

  /** Removes the published systems of generations that are gone. */
  async function removeUnneeded(machine: string): Promise<void> {
    const directory = directoryOf(machine)
    try {
      const needed = neededOf(machine)
      for (const name of await readdir(directory)) {
        if (!needed.has(name)) await rm(join(directory, name), { recursive: true, force: true })
      }
    } catch (error) {
      onError(asNetimageError(fileSystemError(`could not remove files from ${directory}`, error)))
    }
  }

  function refusalFor(error: unknown): Refusal {
    if (signal.aborted) return { why: 'the server is about to end' }
    const known = asNetimageError(error)
    const { code, message, hint } = known
    if (ofMachine.has(code)) return { why: message, hint: hint ?? brokenHint }
    onError(known)
    if (code === 'disk-full') {
      const hint = 'Make room in the state directory of the server. Then run nixos-rebuild again.'
      return { why: 'the disk of the server is full', hint }
    }
    return {
      why: 'there was an error on the server',
      hint: 'Read the reason in the log of the server. Then run nixos-rebuild again.',
    }
  }

  function answer(machine: string, text: Answer): void {
    writeAnswer(rootOf(machine)?.fileSystem, formatAnswer(text))
  }

  return {
    notice,
    observe({ machine, procedure, name }) {
      // Costs nothing if the machine calls too often, so the directory is not looked at.
      if (procedure === 'RENAME' && name?.equals(requestBytes)) notice(machine)
    },
    bytesOf(machine) {
      const bytes = measured.get(machine) ?? measurePublished(directoryOf(machine))
      remember(measured, machine, bytes)
      return bytes
    },
    async close() {
      ending.abort()
      for (const timer of timers) clearTimeout(timer)
      await Promise.all(running)
    },
  }
}

/** For a system as Nix makes none. */
const brokenHint =
  'Check the store of the machine with nix-store --verify --check-contents. Then run nixos-rebuild again.'

/** Codes of errors in the machine's own system or in its request. */
const ofMachine: ReadonlySet<string> = new Set<NetimageError['code']>([
  ...(['bad-system', 'not-a-system', 'bad-option', 'path-not-found'] as const),
])

function refuse({ why, hint }: Refusal): Pick<Answer, 'status' | 'says'> {
  const says = [`The server does not boot this system: ${why}.`]
  return { status: 'refused', says: hint === undefined ? says : [...says, hint] }
}

/** @returns undefined if there is no request, or it was answered before */
function readRequest(fileSystem: FileSystem | undefined) {
  if (!fileSystem) return undefined
  const read = (name: string) =>
    readSmallFile(fileSystem, [...publishDirectory, name], maxRequestBytes)
  const text = read(requestName)
  if (text === undefined) return undefined
  const request = parseRequest(text)
  const before = read(answerName)
  const { id } = request
  return id !== undefined && before !== undefined && isFinalAnswer(before, id) ? undefined : request
}

/** Does nothing if the machine has no file for the answer: then nobody waits for it. */
function writeAnswer(fileSystem: FileSystem | undefined, bytes: Buffer): void {
  if (!fileSystem) return
  const file = findNode(fileSystem, [...publishDirectory, answerName])
  if (file === undefined || fileSystem.attributes(file).kind !== 'file') return
  fileSystem.write(file, 0, bytes)
}
