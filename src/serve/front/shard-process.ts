/**
 * The process of a shard. If it ends, another one is started, which serves the same machines. Meanwhile
 * connections and messages wait.
 */
import { fork, type ChildProcess } from 'node:child_process'
import type { Socket } from 'node:net'

import { messageOf, NetimageError } from '../../errors.ts'
import { ownModule } from '../../own-module.ts'
import { version } from '../../version.ts'
import {
  checked,
  fromPlain,
  parseFromShard,
  shardAnswers,
  type FromShard,
} from '../shard/from-shard.ts'
import type { ShardAnswer, ShardQuestion, ShardStart, ToShard } from '../shard/messages.ts'
import { createQuestions } from '../shard/questions.ts'
import { endTogether } from './end-together.ts'
import { createHandOver, type ConnectionMessage } from './hand-over.ts'
import { processorTimeOf, watchForHang, type HangSettings, type HangWatch } from './hang.ts'
import { createOutbox } from './outbox.ts'

export interface ShardProcessSettings {
  /** What a process is told at its start. */
  start: () => ShardStart
  /** Called with the messages that are not about the process itself. */
  onMessage: (message: FromShard) => void
  /** Called each time that the process serves its machines. */
  onReady: (message: FromShard & { kind: 'ready' }) => void
  /** Called if the process is of another version of netimage than this one, so that no other one can serve. */
  onUpdated: (error: NetimageError) => void
  /** Called if the process has ended, before another one is started. */
  onEnd: (reason: string) => void
  onError: (error: NetimageError) => void
  /**
   * Called if the process ends again and again, so that the next one starts after a long pause.
   *
   * @param failure why the process could not begin, if it has said this
   */
  onFailing: (reason: string, failure: NetimageError | undefined) => void
  /** The program. */
  module?: URL
  /** See hang.ts: once the process serves its machines. */
  mostProcessorMs?: number
  /** See hang.ts: while the process starts. */
  mostStartProcessorMs?: number
  /** Milliseconds. */
  now?: () => number
}

export interface ShardProcess {
  /** The identifier of the process that runs now. */
  readonly pid: number | undefined
  /** Whether the process ends again and again, and the one that runs now has not served for long either. */
  isFailing: () => boolean
  /** Resolves if the first process is ready. @throws `NetimageError` if the process cannot begin */
  ready: Promise<void>
  /** Gives a connection to the process once it is ready. If too many wait, ends the connection. */
  connect(machine: string, message: ConnectionMessage, socket: Socket): void
  /**
   * Sends the message now, or once a process is ready.
   *
   * @returns false if too many wait: the message is dropped
   */
  send(machine: string, message: ToShard): boolean
  /**
   * Asks the process, or the next one if it starts again.
   *
   * @param machine that waits for the answer
   * @returns `ended` if the process has ended before it answered, or is late
   */
  ask<K extends ShardQuestion['about']>(
    machine: string,
    question: ShardQuestion & { about: K },
    withinMs?: number,
  ): Promise<ShardAnswer<K> | 'ended'>
  /** Resolves if the process has closed all and has ended. */
  close(): Promise<void>
}

/**
 * V8 keeps room for new objects: by default up to three times 16 MiB. A shard works as fast with a quarter
 * of it, and takes 10 to 35 MiB less.
 */
const lessMemory = ['--max-semi-space-size=4']

/** A process that ends so often in a row, each time before it has served for so long, is failing. */
const [maxEnds, servedMs] = [8, 10_000]
/**
 * The pause before another start, after the second such end; then it doubles. While the process is failing,
 * the pause is long, because each start takes processor time from the processes of other machines.
 */
const [firstPauseMs, longPauseMs] = [500, 60_000]
/** A start may open large images. */
const [mostLooks, mostStartLooks] = [60, 600]

export function startShardProcess(settings: ShardProcessSettings): ShardProcess {
  const { onMessage, onReady, onEnd, onError, onFailing, onUpdated } = settings
  const { module = ownModule('serve/shard/main') } = settings
  const { mostProcessorMs = 5000, mostStartProcessorMs = 300_000 } = settings
  const { now = () => performance.now() } = settings
  const ready = Promise.withResolvers<void>()
  const closed = Promise.withResolvers<void>()
  const outbox = createOutbox()
  const questions = createQuestions<unknown>()
  const handOver = createHandOver(
    (message, socket) => void child.send(message, socket, { keepOpen: true }, () => {}),
  )
  let child: ChildProcess
  let state: 'starting' | 'ready' | 'closing' | 'over' = 'starting'
  let hasBeenReady = false
  let failure: NetimageError | undefined
  let hang: HangWatch | undefined
  /** When the process that runs now began to serve its machines. */
  let readyAt: number | undefined
  /** How many processes in a row have not served for long. */
  let shortLives = 0
  let nextStart: NodeJS.Timeout | undefined

  function begin(): void {
    state = 'starting'
    nextStart = undefined
    failure = undefined
    readyAt = undefined
    const started = fork(module, {
      ...{ serialization: 'advanced', stdio: ['ignore', 2, 2, 'ipc'] },
      // The program for this may have been removed since the last start.
      ...endTogether([...process.execArgv, ...lessMemory]),
    })
    child = started
    let hasEnded = false
    const end = (reason: string) => {
      if (!hasEnded) ended(killed ?? reason)
      hasEnded = true
    }
    /** Why this server has killed the process. */
    let killed: string | undefined
    const kill = (reason: string) => {
      killed ??= reason
      started.kill('SIGKILL')
    }
    started.on('error', (error) => end(error.message))
    started.on('exit', (status, signal) => end(signal ?? `its status is ${status}`))
    started.on('message', (message: unknown) => {
      if (hasEnded || killed !== undefined) return
      try {
        receive(parseFromShard(message))
      } catch (error) {
        kill(`it has sent a message that no such process sends: ${messageOf(error)}`)
      }
    })
    tell({ kind: 'start', start: settings.start() })
    // A process that starts is not asked: it answers with `ready`.
    hang = watch({
      ping() {},
      mostProcessorMs: mostStartProcessorMs,
      mostLooks: mostStartLooks,
    })

    function watch(
      limits: Pick<HangSettings, 'ping' | 'mostProcessorMs' | 'mostLooks'>,
    ): HangWatch {
      const { pid } = started
      return watchForHang({
        ...limits,
        processorMs: () => (pid === undefined ? undefined : processorTimeOf(pid)),
        onHang: kill,
      })
    }

    function receive(message: FromShard): void {
      switch (message.kind) {
        case 'ready':
          if (readyAt !== undefined) throw new Error('it is ready twice')
          onReady(message)
          hasBeenReady = true
          if (state === 'starting') state = 'ready'
          readyAt = now()
          hang?.[Symbol.dispose]()
          hang = watch({
            ping(id) {
              handOver.pinged()
              tell({ kind: 'ping', id })
            },
            ...{ mostProcessorMs, mostLooks },
          })
          outbox.begin(started)
          handOver.begin()
          ready.resolve()
          break
        case 'pong':
          hang?.answered(message.id)
          handOver.answered()
          break
        case 'taken':
          handOver.taken()
          break
        case 'answer':
          questions.answered(message)
          break
        case 'failed':
          failure = fromPlain(message.error)
          if (hasBeenReady) onError(failure)
          started.kill('SIGKILL')
          break
        case 'other-version':
          failure = updated(message.version)
          onUpdated(failure)
          started.kill('SIGKILL')
          break
        case 'closed':
          started.kill('SIGKILL')
          break
        default:
          onMessage(message)
      }
    }
  }

  /** For messages of which no more than a few can wait. */
  function tell(message: ToShard): void {
    if (child.connected) child.send(message, () => {})
  }

  function ended(reason: string): void {
    hang?.[Symbol.dispose]()
    questions.giveUp()
    if (state === 'closing' || state === 'over') {
      state = 'over'
      closed.resolve()
      return
    }
    if (!hasBeenReady) {
      state = 'over'
      ready.reject(failure ?? cannotServe(reason))
      return
    }
    state = 'starting'
    outbox.ended()
    handOver.ended()
    onEnd(reason)
    shortLives = hasServed() ? 0 : shortLives + 1
    readyAt = undefined
    if (shortLives < 2) begin()
    else if (shortLives < maxEnds) {
      nextStart = setTimeout(begin, firstPauseMs * 2 ** (shortLives - 2))
    } else {
      nextStart = setTimeout(begin, longPauseMs)
      onFailing(reason, failure)
    }
  }

  function hasServed(): boolean {
    return readyAt !== undefined && now() - readyAt >= servedMs
  }

  function drop(): void {
    handOver.close()
    outbox.close()
  }

  begin()
  return {
    get pid() {
      return child.pid
    },
    isFailing: () => shortLives >= maxEnds && !hasServed(),
    ready: ready.promise,
    connect: (machine, message, socket) => handOver.give(machine, message, socket),
    send: (machine, message) => outbox.send(machine, message),
    ask: (machine, question, withinMs) =>
      questions.ask({
        ...{ machine, withinMs },
        send: (id) => outbox.send(machine, { kind: 'question', id, question }),
        parse: (answer) => checked(shardAnswers[question.about], answer),
      }),
    async close() {
      if (state === 'over') return
      const isReady = state === 'ready'
      state = 'closing'
      drop()
      if (nextStart) {
        clearTimeout(nextStart)
        state = 'over'
        return
      }
      if (isReady) tell({ kind: 'close' })
      else child.kill('SIGKILL')
      await closed.promise
    },
  }
}

function cannotServe(reason: string): NetimageError {
  return new NetimageError('internal', `a process that serves machines has ended: ${reason}`, {
    hint: 'Its last messages say why. Serve with --workers 0 until the cause is removed.',
  })
}

function updated(now: string): NetimageError {
  const problem = `netimage was updated to ${now} while this server, of ${version}, runs`
  return new NetimageError('in-use', problem, { hint: 'Start the server again.' })
}
