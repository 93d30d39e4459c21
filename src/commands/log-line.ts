/** The line of a row of the log of a site, in the log and while a command waits for roll-outs. */
import { printableJson, visible } from '../printable.ts'
import type { BrokenLogRow, LogRow } from '../site/log/rows.ts'
import { saysWhat, saysWho } from '../site/log/sentence.ts'
import { shownLogRow } from '../site/log/shown.ts'
import { formatTime } from './format.ts'

/**
 * `2026-11-23 08:15:00  alice by sudo  pi1: assigned image 750abfcbdf3c (pi) as generation 2`
 *
 * @param names by machine
 */
export function logLine(
  row: LogRow | BrokenLogRow,
  names: ReadonlyMap<string, string>,
  json: true | undefined,
): string {
  if (json) return printableJson(shownLogRow(row, names))
  if ('broken' in row) return visible(`row ${row.number} is broken: ${row.broken}`)
  const { at, machine, who, entry } = row
  const what = saysWhat(entry, who)
  const shown = machine === undefined ? undefined : (names.get(machine) ?? machine)
  const sentence = shown === undefined ? what : `${shown}: ${what}`
  return visible([formatTime(at), saysWho(who, shown), sentence].join('  '))
}
