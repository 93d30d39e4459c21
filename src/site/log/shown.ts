/** A row of the log for programs. */
import type { BrokenLogRow, LogRow } from './rows.ts'
import type { Entry, Who } from './entry.ts'
import { saysWhat, saysWho } from './sentence.ts'

export type ShownLogRow =
  | (Entry & {
      number: number
      /** Milliseconds since 1970. */
      at: number
      machine?: string
      /** The name that the machine has now. */
      name?: string
      who: Who
      /** Who it was, in words. */
      by: string
      /** What was done, as a sentence. */
      says: string
    })
  | BrokenLogRow

/** @param names by machine */
export function shownLogRow(
  row: LogRow | BrokenLogRow,
  names: ReadonlyMap<string, string>,
): ShownLogRow {
  if ('broken' in row) return row
  const { number, at, machine, who, entry } = row
  const name = machine === undefined ? undefined : names.get(machine)
  return {
    ...{ number, at },
    ...(machine !== undefined && { machine }),
    ...(name !== undefined && { name }),
    ...{ who, by: saysWho(who, name ?? machine), ...entry, says: saysWhat(entry, who) },
  }
}
