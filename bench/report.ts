/** How all measurements tell their figures. */
import { availableParallelism, cpus, loadavg } from 'node:os'

export function print(text: string): void {
  process.stdout.write(`${text}\n`)
}

/** Prints when and where the figures are measured, and how busy this machine is before and after. */
export async function measured(work: () => Promise<void>): Promise<void> {
  const day = new Date().toISOString().slice(0, 10)
  const load = () => loadavg()[0]?.toFixed(2)
  const processors = `${availableParallelism()} processors (${cpus()[0]?.model})`
  print(`${day}, ${processors}, load before: ${load()}`)
  await work()
  print(`load after: ${load()}`)
}

/**
 * Prints the titles of the columns.
 *
 * @returns prints a row of the table: its cells, and its name at the end
 */
export function beginTable(
  title: string,
  columns: readonly string[],
): (name: string, cells: readonly string[]) => void {
  const widths = columns.map((column) => Math.max(column.length, 12) + 2)
  const printRow = (name: string, cells: readonly string[]) =>
    print(`${cells.map((cell, at) => cell.padStart(widths[at] ?? 0)).join('')}  ${name}`)
  print('')
  printRow(title, columns)
  return printRow
}

export function median(values: readonly number[]): number {
  return at(values, 0.5)
}

/** The range of the middle half of the values, as a share of their median. */
export function spread(values: readonly number[]): number {
  return (at(values, 0.75) - at(values, 0.25)) / median(values)
}

function at(values: readonly number[], share: number): number {
  const sorted = values.toSorted((one, other) => one - other)
  return sorted[Math.floor(share * sorted.length)] ?? Number.NaN
}

export function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MiB`
}
