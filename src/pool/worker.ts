/** A worker thread. Runs its jobs one after another. */
import { parentPort, workerData } from 'node:worker_threads'

import { messageOf, NetimageError } from '../errors.ts'
import { claimDecoderMemory } from './decoder-memory.ts'
import { runJob } from './jobs.ts'
import type { JobMessage, ResultMessage, WorkerSetup } from './workers.ts'

const port = parentPort
if (!port) throw new Error('this module runs in a worker thread only')

const { counter, decoderMemory }: WorkerSetup = workerData
const bytesDone = new BigUint64Array(counter)
const memory = claimDecoderMemory(decoderMemory)

port.on('message', ({ id, job }: JobMessage) => {
  let counted = 0
  const count = (bytes: number) => {
    counted += bytes
    Atomics.add(bytesDone, 0, BigInt(bytes))
  }
  void runJob(job, count, memory)
    .then((result): ResultMessage => ({ id, result }))
    .catch((error: unknown): ResultMessage => {
      // Take back the bytes of a failed job: its next attempt counts them again.
      Atomics.sub(bytesDone, 0, BigInt(counted))
      return { id, error: describe(error) }
    })
    .then((message) => port.postMessage(message))
})

/** Errors lose their class between threads, so send their parts as data. */
function describe(error: unknown): NonNullable<ResultMessage['error']> {
  if (error instanceof NetimageError) {
    const { code, message, hint, details } = error
    return { code, message, hint, details }
  }
  return { code: 'internal', message: messageOf(error), hint: undefined, details: {} }
}
