/**
 * Compares servers that run at the same time, and clients that ask one after the other: how much they do
 * in a second, and how much processor time the server needs for it.
 */
import { openNetwork, type Host } from '../test/e2e/support/network.ts'
import type { Program } from '../test/e2e/support/program.ts'
import { peakMemory } from './peak-memory.ts'
import { countProcessorTime } from './processor-time.ts'
import { beginTable, mebibytes, median, spread } from './report.ts'

/** Where programs run: what comes before their commands. */
export interface Placing {
  name: string
  servers: readonly string[]
  clients: readonly string[]
}

export const placings: readonly Placing[] = [
  { name: 'all on all processors', servers: [], clients: [] },
  {
    name: 'servers on one processor, clients on another',
    ...{ servers: ['taskset', '-c', '0'], clients: ['taskset', '-c', '1'] },
  },
]

/** The host, but its programs run in this place. */
export function placed(host: Host, before: readonly string[]): Host {
  return {
    ...host,
    start: (name, command, hopeless) => host.start(name, [...before, ...command], hopeless),
    run: (command) => host.run([...before, ...command]),
  }
}

export interface Server {
  name: string
  program: Program
  /** The seconds that all its processes have used. */
  processorTime: () => number
}

/** @param program which has started all processes that it needs at first */
export function countServer(name: string, program: Program): Server {
  return { name, program, processorTime: countProcessorTime(program.pid) }
}

/** What clients have done, in units of the row. */
export interface Work {
  amount: number
  seconds: number
}

export interface Comparison {
  /** Does the work once, and notes what it took. */
  measure: (row: string, server: Server, work: () => Promise<Work>) => Promise<void>
  /** Prints medians of all rounds. @param unit of what was done */
  printRow: (row: string, unit: string) => void
  notePeak: (server: Server) => void
  printPeaks: () => void
}

/** @param own the names of servers of netimage; the first is compared with the fastest of the others */
export function beginComparison(
  title: string,
  others: readonly string[],
  own: readonly string[],
): Comparison {
  const samples: { row: string; server: string; rate: number; cost: number }[] = []
  const peaks: { server: string; bytes: number }[] = []
  const names = [...others, ...own]
  const costs = names.map((name) => `${name}, each`)
  const print = beginTable(`${title}: in a second, and processor time for each`, [
    ...[...names, 'of the fastest', ...costs],
  ])

  return {
    async measure(row, server, work) {
      const before = server.processorTime()
      const { amount, seconds } = await work()
      const cost = (server.processorTime() - before) / amount
      samples.push({ row, server: server.name, rate: amount / seconds, cost })
    },
    printRow(row, unit) {
      const of = (name: string, figure: 'rate' | 'cost') =>
        samples
          .filter((sample) => sample.row === row && sample.server === name)
          .map((sample) => sample[figure])
      const fastest = Math.max(...others.map((name) => median(of(name, 'rate'))))
      const ratio = median(of(own[0] ?? '', 'rate')) / fastest
      print(`${row} (${unit})`, [
        ...names.map((name) => shownRate(of(name, 'rate'))),
        ratio.toFixed(2),
        ...names.map((name) => shownCost(median(of(name, 'cost')))),
      ])
    },
    notePeak: ({ name, program }) =>
      void peaks.push({ server: name, bytes: peakMemory(program.pid).largest }),
    printPeaks() {
      const of = (name: string) =>
        peaks.filter(({ server }) => server === name).map(({ bytes }) => bytes)
      print(
        'peak memory of a process',
        names.map((name) => mebibytes(Math.max(...of(name)))),
      )
    },
  }
}

/** The servers take turns, so that other work of this machine slows all of them. */
export async function compareRows<S extends Server, R extends { unit: string }>(
  comparison: Comparison,
  rounds: number,
  servers: readonly S[],
  rows: Readonly<Record<string, R>>,
  work: (row: R, server: S) => Promise<Work>,
): Promise<void> {
  for (const [name, row] of Object.entries(rows)) {
    for (let round = 0; round < rounds; round++) {
      for (const server of servers) await comparison.measure(name, server, () => work(row, server))
    }
    comparison.printRow(name, row.unit)
  }
  for (const server of servers) comparison.notePeak(server)
}

type CommandOf = (address: string) => readonly string[]

export interface Commands {
  /** For the names of networks and of their logs. */
  name: string
  rounds: number
  /** The commands that start servers on an address. */
  others: Readonly<Record<string, CommandOf>>
  own: Readonly<Record<string, CommandOf>>
  /** What the command of a client fetches from the server on an address. */
  rows: Readonly<Record<string, { unit: string; amount: number; command: CommandOf }>>
}

/** Compares servers whose clients are programs, in all placings. */
export async function compareCommands({
  name,
  rounds,
  others,
  own,
  rows,
}: Commands): Promise<void> {
  for (const placing of placings) {
    await using network = await openNetwork(name)
    const host = placed(network, placing.servers)
    const started = Object.entries({ ...others, ...own }).map(([server, command], index) => {
      const address = `127.0.0.${index + 1}`
      return { server, address, program: host.start(server.replace(' ', '-'), command(address)) }
    })
    await new Promise((resolve) => setTimeout(resolve, 2000))
    const servers = started.map(({ server, address, program }) => ({
      ...countServer(server, program),
      address,
    }))
    const clients = placed(network, placing.clients)
    const comparison = beginComparison(placing.name, Object.keys(others), Object.keys(own))
    await compareRows(comparison, rounds, servers, rows, async (row, { address }) => ({
      amount: row.amount,
      seconds: await timed(clients, row.command(address)),
    }))
    comparison.printPeaks()
  }
}

/** @returns the seconds that the command took */
async function timed(host: Host, command: readonly string[]): Promise<number> {
  const script = 'start=$(date +%s%N); "$@" >&2; echo $(($(date +%s%N) - start))'
  const output = await host.run(['sh', '-ec', script, 'sh', ...command])
  return Number(output.trim()) / 1e9
}

function shownRate(rates: readonly number[]): string {
  return `${figure(median(rates))} ±${(50 * spread(rates)).toFixed(0)}%`
}

function shownCost(seconds: number): string {
  return seconds < 0.001 ? `${figure(seconds * 1e6)} µs` : `${figure(seconds * 1e3)} ms`
}

/** With three digits at least. */
function figure(value: number): string {
  return value < 100 ? value.toPrecision(3) : value.toFixed(0)
}
