// Temporary directories that are removed when the test file ends.

import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import { removeTree } from '../../src/remove-tree.ts'

/** An empty directory. It is removed after the tests of the file. */
export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'netimage-test-'))
  after(() => removeTree(directory))
  return directory
}

/** @returns a function that gives a new path in `directory` at each call */
export function freshNames(directory: string): () => string {
  let count = 0
  return () => join(directory, String(++count))
}
