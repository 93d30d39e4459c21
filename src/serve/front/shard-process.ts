/**
 * The process of a shard. If it ends, another one is started, which serves the same machines. Meanwhile
 * connections and messages wait.
 */
import type { Socket } from 'node:net'

import { ownModule } from '../../own-module.ts'
import { checked, answerSchemas, type FromShard } from '../shard/from-shard.ts'
import type { ShardAnswer, ShardQuestion, ShardStart, ToShard } from '../shard/messages.ts'
import { createQuestions } from '../shard/questions.ts'
import { cannotServe } from './failures.ts'
import { createHandOver, type ConnectionMessage } from './hand-over.ts'
import { startProcess, type End, type OneProcess, type OneProcessSettings } from './one-process.ts'
import { createOutbox } from './outbox.ts'
import { createRestarts } from './restarts.ts'

export interface ShardProcessSettings extends Partial<
  Pick<OneProcessSettings, 'module' | 'mostProcessorMs' | 'mostStartProcessorMs'>
> {
  /** What a process is told at its start. */
  start: () => ShardStart
  /** Called with the messages that are not about the process itself. */
  onMessage: (message: FromShard) => void
  /** Called each time that the process serves its machines. */
  onReady: (message: FromShard & { kind: 'ready' }) => void
  /**
   * Called if the process has ended, before another one is started. If the first one has ended before it was
   * ready, no other one is started, and this is not called.
   */
  onEnd: (end: End) => void
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
   * Asks the process now, or once it is ready.
   *
   * @param machine that waits for the answer
   * @returns `no-answer` if the process has ended before it answered, or is late, or if too many wait
   */
  ask<K extends ShardQuestion['about']>(
    machine: string,
    question: ShardQuestion & { about: K },
    withinMs?: number,
  ): Promise<ShardAnswer<K> | 'no-answer'>
  /** Resolves if the process has closed all and has ended. */
  close(): Promise<void>
}

export function startShardProcess(settings: ShardProcessSettings): ShardProcess {
  const { onMessage, onReady, onEnd, module = ownModule('serve/shard/main') } = settings
  const { mostProcessorMs = 5000, mostStartProcessorMs = 300_000 } = settings
  const { now = () => performance.now() } = settings
  const restarts = createRestarts(now)
  const outbox = createOutbox()
  const questions = createQuestions<ShardQuestion, unknown>()
  const handOver = createHandOver((message, socket) => current.give(message, socket))
  const ready = Promise.withResolvers<void>()
  const over = Promise.withResolvers<void>()
  let state: 'starting' | 'serving' | 'pausing' | 'over' = 'starting'
  let [hasBeenReady, isClosing] = [false, false]
  let nextStart: NodeJS.Timeout | undefined
  let current: OneProcess = begin()

  function begin(): OneProcess {
    state = 'starting'
    return startProcess({
      ...{ module, start: settings.start, mostProcessorMs, mostStartProcessorMs },
      ...{ onPing: handOver.pinged, onMessage: receive, onEnd: ended },
    })
  }

  function receive(message: FromShard): void {
    switch (message.kind) {
      case 'ready':
        current.serves()
        onReady(message)
        serves()
        break
      case 'pong':
        handOver.answered()
        break
      case 'taken':
        handOver.taken()
        break
      case 'heard':
        outbox.heard()
        break
      case 'answer':
        questions.answered(message)
        break
      default:
        onMessage(message)
    }
  }

  function serves(): void {
    hasBeenReady = true
    state = 'serving'
    restarts.serves()
    outbox.begin(current)
    handOver.begin()
    questions.begin((id, question) => current.send({ kind: 'question', id, question }))
    ready.resolve()
  }

  function ended(end: End): void {
    outbox.ended()
    handOver.ended()
    questions.ended()
    if (isClosing || !hasBeenReady) {
      state = 'over'
      over.resolve()
      if (!isClosing) ready.reject(end.failure ?? cannotServe(end.reason))
      return
    }
    const pauseMs = restarts.ended()
    onEnd(end)
    if (pauseMs === 0) current = begin()
    else {
      state = 'pausing'
      nextStart = setTimeout(() => (current = begin()), pauseMs)
    }
  }

  return {
    get pid() {
      return current.pid
    },
    isFailing: restarts.isFailing,
    ready: ready.promise,
    connect: (machine, message, socket) => handOver.give(machine, message, socket),
    send: (machine, message) => outbox.send(machine, message),
    ask: (machine, question, withinMs) =>
      questions.ask({
        ...{ machine, asked: question, withinMs },
        parse: (answer) => checked(answerSchemas[question.about], answer),
      }),
    async close() {
      if (state === 'over') return
      isClosing = true
      handOver.close()
      outbox.close()
      questions.close()
      if (state === 'pausing') {
        clearTimeout(nextStart)
        state = 'over'
        return
      }
      if (state === 'serving') current.send({ kind: 'close' })
      else current.kill()
      await over.promise
    },
  }
}
