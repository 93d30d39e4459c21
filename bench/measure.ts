/** Runs commands side by side, several times, and compares their medians. */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { performance } from 'node:perf_hooks'

export interface Contender {
  name: string
  command: string[]
  environment?: NodeJS.ProcessEnv
  /** Runs before each round; its time is not measured. */
  prepare: () => Promise<void>
}

export interface Measurement {
  name: string
  seconds: number
  /** The highest resident memory of all rounds, in bytes. */
  peakMemory: number
}

/** The contenders take turns, so that other work of the machine slows them equally. */
export async function measure(contenders: Contender[], rounds: number): Promise<Measurement[]> {
  const samples = contenders.map((): { seconds: number[]; memory: number[] } => ({
    seconds: [],
    memory: [],
  }))
  for (let round = 0; round < rounds; round++) {
    for (const [index, contender] of contenders.entries()) {
      await contender.prepare()
      const { seconds, peakMemory } = await runOnce(contender)
      samples[index]?.seconds.push(seconds)
      samples[index]?.memory.push(peakMemory)
    }
  }
  return contenders.map(({ name }, index) => ({
    name,
    seconds: median(samples[index]?.seconds ?? []),
    peakMemory: Math.max(...(samples[index]?.memory ?? [])),
  }))
}

export function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}

function runOnce(contender: Contender): Promise<{ seconds: number; peakMemory: number }> {
  const [program = '', ...args] = contender.command
  return new Promise((resolve, reject) => {
    const start = performance.now()
    const child = spawn(program, args, {
      env: contender.environment ?? process.env,
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    let peakMemory = 0
    let complaint = ''
    child.stderr.on('data', (text) => (complaint += String(text)))
    const timer = setInterval(() => {
      peakMemory = Math.max(peakMemory, child.pid === undefined ? 0 : residentPeak(child.pid))
    }, 10)
    child.on('error', reject)
    child.on('close', (status) => {
      clearInterval(timer)
      const seconds = (performance.now() - start) / 1000
      if (status === 0) resolve({ seconds, peakMemory })
      else reject(new Error(`${contender.name} ended with ${status}: ${complaint}`))
    })
  })
}

/** The highest resident memory so far, in bytes: VmHWM of proc(5). */
function residentPeak(pid: number): number {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8')
    return Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024
  } catch {
    return 0
  }
}
