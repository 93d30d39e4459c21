/** How many operations of NFS have succeeded, by procedure. */
import { procedures } from './procedures/procedures.ts'

/** By the name of the procedure: `READ`. */
export type ProcedureCounts = Partial<Record<string, number>>

const names = new Set(procedures.map(({ name }) => name))

/** Whether this is a procedure of NFS version 3. */
export function isProcedure(name: unknown): name is string {
  return typeof name === 'string' && names.has(name)
}

/** Adds to the counts. */
export function addCounts(counts: ProcedureCounts, more: ProcedureCounts): void {
  for (const [name, count = 0] of Object.entries(more)) counts[name] = (counts[name] ?? 0) + count
}
