// Counts the rows that are read from databases.

import { StatementSync, type SQLInputValue } from 'node:sqlite'
import { mock } from 'node:test'

export interface RowCount {
  /** How many rows were read since it was last called. */
  take(): number
  stop(): void
}

export function countRows(): RowCount {
  let rows = 0
  /* oxlint-disable-next-line typescript/unbound-method -- called with `this` below */
  const iterate: (...values: SQLInputValue[]) => Iterable<unknown> = StatementSync.prototype.iterate
  const all = mock.method(StatementSync.prototype, 'all')
  const each = mock.method(
    StatementSync.prototype,
    'iterate',
    function* (this: StatementSync, ...values: SQLInputValue[]) {
      for (const row of iterate.apply(this, values)) {
        rows++
        yield row
      }
    },
  )
  return {
    take() {
      for (const { result = [] } of all.mock.calls) rows += result.length
      all.mock.resetCalls()
      const taken = rows
      rows = 0
      return taken
    },
    stop() {
      all.mock.restore()
      each.mock.restore()
    },
  }
}
