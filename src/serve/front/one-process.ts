/** One process of a shard: it is started, watched, and ends. */
import { fork, type ChildProcess } from 'node:child_process'
import type { Socket } from 'node:net'

import { messageOf, type NetimageError } from '../../errors.ts'
import { fromPlain, parseFromShard, type FromShard } from '../shard/from-shard.ts'
import type { ShardStart, ToShard } from '../shard/messages.ts'
import { endTogether } from './end-together.ts'
import { wasUpdated } from './failures.ts'
import type { ConnectionMessage } from './hand-over.ts'
import { processorTimeOf, watchForHang, type HangSettings } from './hang.ts'

export interface OneProcessSettings {
  /** The program. */
  module: URL
  /** What the process is told at its start. */
  start: () => ShardStart
  /** See hang.ts: once the process serves its machines. */
  mostProcessorMs: number
  /** See hang.ts: while the process starts. */
  mostStartProcessorMs: number
  /** Called when a ping is sent; the answer is a message. */
  onPing: () => void
  /** Called with each message. If this throws an error, no such process says this, and it is killed. */
  onMessage: (message: FromShard) => void
  /** Called once, but not before this function has returned. */
  onEnd: (end: End) => void
}

export interface End {
  reason: string
  /** Why the process could not begin, if it has said this. */
  failure: NetimageError | undefined
  /** The process was of another version of netimage than this one, so that no other one can serve. */
  isUpdated: boolean
}

export interface OneProcess {
  readonly pid: number | undefined
  /** @param taken called when the system has taken the message, or cannot take it */
  send(message: ToShard, taken?: (error: Error | null) => void): void
  /** The socket stays open here as well. */
  give(message: ConnectionMessage, socket: Socket): void
  /** To be called when the process has said that it serves its machines. @throws an error if it did so before */
  serves(): void
  kill(): void
}

/**
 * V8 keeps room for new objects: by default up to three times 16 MiB. A shard works as fast with a quarter
 * of it, and takes 10 to 35 MiB less.
 */
const lessMemory = ['--max-semi-space-size=4']

/** A start may open large images. */
const [mostLooks, mostStartLooks] = [60, 600]

export function startProcess(settings: OneProcessSettings): OneProcess {
  let start: ShardStart
  let child: ChildProcess
  try {
    start = settings.start()
    child = fork(settings.module, {
      ...{ serialization: 'advanced', stdio: ['ignore', 2, 2, 'ipc'] },
      // The program for this may have been removed since the last start.
      ...endTogether([...process.execArgv, ...lessMemory]),
    })
  } catch (error) {
    // Node throws some errors of fork(2), such as a lack of memory, and emits others.
    const reason = `it could not be started: ${messageOf(error)}`
    process.nextTick(settings.onEnd, { reason, failure: undefined, isUpdated: false })
    return never
  }
  return watchProcess(settings, child, start)
}

/** A process that could not be started. */
const never: OneProcess = { pid: undefined, send() {}, give() {}, serves() {}, kill() {} }

function watchProcess(
  settings: OneProcessSettings,
  child: ChildProcess,
  start: ShardStart,
): OneProcess {
  const { mostProcessorMs, mostStartProcessorMs, onPing, onMessage } = settings
  let [hasEnded, isServing, isUpdated] = [false, false, false]
  let failure: NetimageError | undefined
  /** Why this server has killed the process. */
  let defect: string | undefined
  let hang = watch({
    // A process that starts is not asked: it answers with `ready`.
    ping() {},
    ...{ mostProcessorMs: mostStartProcessorMs, mostLooks: mostStartLooks },
  })

  function watch(limits: Pick<HangSettings, 'ping' | 'mostProcessorMs' | 'mostLooks'>) {
    const { pid } = child
    return watchForHang({
      ...limits,
      processorMs: () => (pid === undefined ? undefined : processorTimeOf(pid)),
      onHang: killFor,
    })
  }

  function killFor(reason: string): void {
    defect ??= reason
    child.kill('SIGKILL')
  }

  function end(reason: string): void {
    if (hasEnded) return
    hasEnded = true
    hang[Symbol.dispose]()
    settings.onEnd({ reason: defect ?? reason, failure, isUpdated })
  }

  function receive(message: FromShard): void {
    switch (message.kind) {
      case 'failed':
        failure = fromPlain(message.error)
        child.kill('SIGKILL')
        break
      case 'other-version':
        failure = wasUpdated(message.version)
        isUpdated = true
        child.kill('SIGKILL')
        break
      case 'closed':
        child.kill('SIGKILL')
        break
      case 'pong':
        hang.answered(message.id)
        onMessage(message)
        break
      default:
        onMessage(message)
    }
  }

  function send(message: ToShard, taken: (error: Error | null) => void = () => {}): void {
    child.send(message, taken)
  }

  child.on('error', (error) => end(error.message))
  child.on('exit', (status, signal) => end(signal ?? `its status is ${status}`))
  child.on('message', (message: unknown) => {
    if (hasEnded || defect !== undefined) return
    try {
      receive(parseFromShard(message))
    } catch (error) {
      killFor(`it has sent a message that no such process sends: ${messageOf(error)}`)
    }
  })
  send({ kind: 'start', start })
  return {
    get pid() {
      return child.pid
    },
    send,
    give: (message, socket) => void child.send(message, socket, { keepOpen: true }, () => {}),
    serves() {
      if (isServing) throw new Error('it is ready twice')
      isServing = true
      hang[Symbol.dispose]()
      hang = watch({
        ping(id) {
          onPing()
          send({ kind: 'ping', id })
        },
        ...{ mostProcessorMs, mostLooks },
      })
    },
    kill: () => void child.kill('SIGKILL'),
  }
}
