/** Gives a machine of a site a name, in place of the one that it has. */
import type { Entry } from './log/entry.ts'
import type { SiteWriter } from './statements.ts'

/** @returns the row of the log for it */
export function giveName(writer: SiteWriter, machine: string, name: string): Entry {
  const before = writer.names().get(machine)
  writer.setName(machine, name)
  // So that the status shows the machine also before its first boot.
  writer.keep(writer.of(machine))
  return { kind: 'named', newName: name, ...(before !== undefined && { before }) }
}
