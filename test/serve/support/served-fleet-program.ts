// `netimage serve` whose parent sets the clock, and decides when it kills itself. See steered-process.ts.

import childProcess, { type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { mock } from 'node:test'
import type { ServeRequest } from '../../../src/serve/request.ts'
import { restartProgram } from './restart-command.ts'
import { begin, steers, stepsVariable, takeMessages, work, type Steps } from './steered-process.ts'

export interface Steering extends Steps {
  /** When the server starts. */
  open?: Pick<ServeRequest, 'state' | 'ports' | 'shards'>
}

/** The processes that serve the machines. */
const shards = new Set<ChildProcess>()
const { fork } = childProcess
mock.method(childProcess, 'fork', (...given: Parameters<typeof fork>) => {
  const shard = fork(...given)
  shards.add(shard)
  shard.once('exit', () => shards.delete(shard))
  takeMessages(shard, () => shard.emit(steers))
  return shard
})
const { spawn } = childProcess
mock.method(childProcess, 'spawn', (...given: [string, string[], object]) => {
  const [program, args, options] = given
  if (program !== restartProgram) return spawn(...given)
  process.send?.({ restart: args })
  return spawn('true', [], options)
})
/** What is being written to the disk: work goes on after it. */
let writing = 0
const { fdatasync } = fs
mock.method(fs, 'fdatasync', (file: number, done: (error: Error | null) => void) => {
  writing++
  fdatasync(file, (error) => {
    writing--
    done(error)
  })
})
syncBuiltinESMExports()
const { serve } = await import('../../../src/serve/serve.ts')

async function steer(shard: ChildProcess, steps: Steps): Promise<void> {
  const steered = new AbortController()
  const options = { signal: steered.signal }
  const answers = [once(shard, steers, options), once(shard, 'exit', options)]
  shard.send({ kind: steers, steps }, () => {})
  await Promise.race(answers)
  // Otherwise each would leave a listener.
  steered.abort()
  await Promise.allSettled(answers)
}

async function obey({ open, ...steps }: Steering): Promise<void> {
  begin(steps)
  if (open) {
    process.env[stepsVariable] = JSON.stringify(steps)
    await serve({
      ...{ images: [], dhcp: 'off', address: '127.0.0.1', allowed: 'any', ...open },
      ...{ see: () => {}, onTold: () => {} },
      onError: (error) => console.error(error.message),
    })
  }
  await Promise.all([...shards].map((shard) => steer(shard, open ? { at: steps.at } : steps)))
  work()
  await roundsEnd()
  process.send?.('done')
}

/** What is due is done, and roll-outs have asked machines to restart. */
async function roundsEnd(): Promise<void> {
  for (let quiet = 0; quiet < 10; quiet++) {
    await new Promise((resolve) => void setImmediate(resolve))
    if (writing > 0) quiet = 0
  }
}

process.on('message', (asked: Steering) => void obey(asked))
process.send?.('loaded')
