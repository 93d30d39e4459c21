// Counts the statements that SQLite runs in this process, and the rows that they give.

import { DatabaseSync, StatementSync } from 'node:sqlite'
import { mock } from 'node:test'

export interface Statements extends Disposable {
  /** How often statements with such a text have been run. */
  runs(text: RegExp): number
  /** How many rows all statements have given. */
  rows(): number
}

export function countStatements(): Statements {
  const texts: string[] = []
  let rows = 0
  const ofStatements = (['all', 'get', 'run'] as const).map((name) => {
    const original = StatementSync.prototype[name]
    return mock.method(
      StatementSync.prototype,
      name,
      function (this: StatementSync, ...args: unknown[]): unknown {
        texts.push(this.sourceSQL)
        const found: unknown = Reflect.apply(original, this, args)
        if (Array.isArray(found)) rows += found.length
        else if (name === 'get' && found !== undefined) rows++
        return found
      },
    )
  })
  const name = 'exec'
  const original = DatabaseSync.prototype[name]
  const ofDatabases = mock.method(
    DatabaseSync.prototype,
    name,
    function (this: DatabaseSync, text: string) {
      texts.push(text)
      Reflect.apply(original, this, [text])
    },
  )
  return {
    runs: (text) => texts.filter((each) => text.test(each)).length,
    rows: () => rows,
    [Symbol.dispose]() {
      for (const { mock } of [...ofStatements, ofDatabases]) mock.restore()
    },
  }
}
