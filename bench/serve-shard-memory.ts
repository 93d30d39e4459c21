/**
 * Measures what 16 shards need before they serve a machine: as processes, as `netimage serve` has
 * them, and as threads of one process.
 *
 *     node bench/serve-shard-memory.ts
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { isMainThread, parentPort, Worker } from 'node:worker_threads'

import { beginTable, measured } from './report.ts'

const count = 16
const asChild = 'child'

interface Memory {
  resident: number
  /** Memory that several processes share is divided among them. */
  proportional: number
}

if (!isMainThread) {
  await loadShard()
  parentPort?.postMessage('loaded')
  parentPort?.ref()
} else if (process.argv[2] === asChild) {
  await loadShard()
  process.send?.('loaded')
  process.once('disconnect', () => process.exit())
} else {
  await measured(async () => {
    const printRow = beginTable(`${count} shards`, ['resident, each', 'proportional, each'])
    const printMemory = (name: string, { resident, proportional }: Memory) =>
      printRow(
        name,
        [resident, proportional].map((mebibytes) => `${(mebibytes / count).toFixed(0)} MiB`),
      )
    const children = await Promise.all(Array.from({ length: count }, startProcess))
    printMemory('processes', sum(children.map(({ pid = 0 }) => memoryOf(pid))))
    for (const child of children) child.disconnect()

    const before = memoryOf(process.pid)
    await Promise.all(Array.from({ length: count }, startThread))
    const after = memoryOf(process.pid)
    printMemory('threads of one process', {
      resident: after.resident - before.resident,
      proportional: after.proportional - before.proportional,
    })
  })
  process.exit()
}

async function loadShard(): Promise<void> {
  await import('../src/serve/shard/shard.ts')
}

async function startProcess() {
  const child = fork(import.meta.filename, [asChild])
  await once(child, 'message')
  return child
}

async function startThread(): Promise<void> {
  await once(new Worker(new URL(import.meta.url)), 'message')
}

/** In MiB. */
function memoryOf(pid: number): Memory {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')
  const field = (name: string) => Number(new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(text)?.[1])
  return { resident: field('Rss') / 1024, proportional: field('Pss') / 1024 }
}

function sum(all: readonly Memory[]): Memory {
  return {
    resident: all.reduce((total, { resident }) => total + resident, 0),
    proportional: all.reduce((total, { proportional }) => total + proportional, 0),
  }
}
