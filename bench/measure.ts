/** Runs commands side by side, several times, and compares their medians. */
import { spawn } from 'node:child_process'
import { performance } from 'node:perf_hooks'
import { text } from 'node:stream/consumers'

import { peakMemory } from './peak-memory.ts'
import { median } from './report.ts'

export interface Contender {
  name: string
  command: string[]
  environment?: NodeJS.ProcessEnv
  /** Runs before each round; its time is not measured. */
  prepare: () => Promise<void>
}

interface Sample {
  seconds: number
  /** Processor time of the command and all that it started, in seconds. */
  user: number
  system: number
  /** The highest resident memory of one of these processes, in bytes. */
  peakMemory: number
}

/** Medians of all rounds; the highest of the peaks. */
export interface Measurement extends Sample {
  name: string
}

/** The contenders take turns, so that other work of the machine slows them equally. */
export async function measure(contenders: Contender[], rounds: number): Promise<Measurement[]> {
  const samples = contenders.map((): Sample[] => [])
  for (let round = 0; round < rounds; round++) {
    for (const [index, contender] of contenders.entries()) {
      await contender.prepare()
      samples[index]?.push(await runOnce(contender))
    }
  }
  return contenders.map(({ name }, index) => {
    const own = samples[index] ?? []
    return {
      name,
      seconds: median(own.map(({ seconds }) => seconds)),
      user: median(own.map(({ user }) => user)),
      system: median(own.map(({ system }) => system)),
      peakMemory: Math.max(...own.map(({ peakMemory }) => peakMemory)),
    }
  })
}

/** times(1p) tells the processor time of the command after its end; only its parent can know it. */
const timed = '"$@" >/dev/null; status=$?; times; exit $status'

async function runOnce(contender: Contender): Promise<Sample> {
  const start = performance.now()
  const child = spawn('sh', ['-c', timed, 'sh', ...contender.command], {
    env: contender.environment ?? process.env,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let peak = 0
  const timer = setInterval(() => {
    if (child.pid !== undefined) peak = Math.max(peak, peakMemory(child.pid).largest)
  }, 10)
  const ended = new Promise<number | null>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', resolve)
  })
  try {
    const output = await Promise.all([text(child.stderr), text(child.stdout), ended])
    const [complaint, told, status] = output
    const seconds = (performance.now() - start) / 1000
    if (status !== 0) throw new Error(`${contender.name} ended with ${status}: ${complaint}`)
    return { seconds, ...childTimes(told), peakMemory: peak }
  } finally {
    clearInterval(timer)
  }
}

/** The second line of times(1p) is about the children of the shell: `0m1.25s 0m0.50s`. */
function childTimes(told: string): { user: number; system: number } {
  const [user = Number.NaN, system = Number.NaN] = [
    ...(told.split('\n')[1] ?? '').matchAll(/(\d+)m([\d.]+)s/g),
  ].map(([, minutes, seconds]) => 60 * Number(minutes) + Number(seconds))
  return { user, system }
}
