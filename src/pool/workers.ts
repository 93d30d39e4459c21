/**
 * Worker threads for work that uses the processor: decompressing, hashing, unpacking. Their number
 * limits the memory, whatever the size of the closure.
 */
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'

import { NetimageError } from '../errors.ts'
import { ownModule } from '../own-module.ts'
import { createDecoderMemory } from './decoder-memory.ts'
import type { Job, JobResult } from './jobs.ts'

export interface WorkerSetup {
  counter: SharedArrayBuffer
  decoderMemory: SharedArrayBuffer
}

export interface JobMessage {
  id: number
  job: Job
}

export interface ResultMessage {
  id: number
  result?: JobResult
  error?: Pick<NetimageError, 'code' | 'message' | 'hint' | 'details'>
}

export interface Workers {
  /** Runs a job on the next free worker. */
  run(job: Job): Promise<JobResult>
  /** The NAR bytes that all jobs together have done so far. */
  bytesDone(): number
  /** Ends the threads; jobs that still run fail. */
  close(): Promise<void>
}

interface Pending {
  job: Job
  resolve(result: JobResult): void
  reject(error: Error): void
}

/** Each worker uses up to 70 MB with its decoder. With four workers netimage stays below 400 MB. */
const maxWorkers = 4

/** The heaps of workers stay small: chunks are outside of the heap, and files are streamed. */
const resourceLimits = { maxOldGenerationSizeMb: 128, maxYoungGenerationSizeMb: 8 }

/** @param signal ends the threads as `close` does, even in the middle of a large path */
export function startWorkers(signal: AbortSignal): Workers {
  const counter = new SharedArrayBuffer(8)
  const bytesDone = new BigUint64Array(counter)
  const setup: WorkerSetup = { counter, decoderMemory: createDecoderMemory() }
  const limit = Math.min(availableParallelism(), maxWorkers)
  const queue: Pending[] = []
  const running = new Map<number, Pending>()
  const idle: Worker[] = []
  const all: Worker[] = []
  let nextId = 0
  let closed = false

  function start(): Worker {
    const worker = new Worker(ownModule('pool/worker'), { workerData: setup, resourceLimits })
    all.push(worker)
    worker.on('message', (message: ResultMessage) => {
      const pending = running.get(message.id)
      running.delete(message.id)
      idle.push(worker)
      dispatch()
      if (!pending) return
      if (message.error) {
        const { code, message: text, hint, details } = message.error
        pending.reject(new NetimageError(code, text, { hint, details }))
      } else pending.resolve(message.result ?? false)
    })
    // If a worker dies, we cannot tell which job it had. So all jobs fail.
    worker.on('error', (error) => failAll(error))
    return worker
  }

  function failAll(error: Error): void {
    for (const pending of [...running.values(), ...queue]) pending.reject(error)
    running.clear()
    queue.length = 0
  }

  function dispatch(): void {
    while (queue.length > 0 && !closed) {
      const worker = idle.pop()
      const pending = worker && queue.shift()
      if (!pending) return
      const id = nextId++
      running.set(id, pending)
      const message: JobMessage = { id, job: pending.job }
      worker.postMessage(message)
    }
  }

  // Start all workers now: they start up while we look for the closure.
  while (all.length < limit) idle.push(start())

  async function close(): Promise<void> {
    closed = true
    signal.removeEventListener('abort', close)
    await Promise.all(all.map((worker) => worker.terminate()))
    // Reject the jobs only after the threads have ended: callers then remove the jobs' files.
    failAll(new NetimageError('interrupted', 'interrupted'))
  }
  signal.addEventListener('abort', close)

  return {
    run(job) {
      return new Promise((resolve, reject) => {
        if (closed) return reject(new NetimageError('interrupted', 'interrupted'))
        queue.push({ job, resolve, reject })
        dispatch()
      })
    },
    bytesDone: () => Number(Atomics.load(bytesDone, 0)),
    close,
  }
}
