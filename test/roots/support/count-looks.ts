// Counts the files that are looked at.

import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { mock } from 'node:test'

export interface LookCount {
  /** How many files were looked at since it was last called. */
  take(): number
}

export function countLooks(): LookCount {
  const look = mock.method(fs, 'lstatSync')
  syncBuiltinESMExports()
  return {
    take() {
      const count = look.mock.callCount()
      look.mock.resetCalls()
      return count
    },
  }
}
