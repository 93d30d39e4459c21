// Directories that live as long as the test file that asked for them.

import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after } from 'node:test'
import { removeTree } from '../../src/remove-tree.ts'

/** An empty directory, removed when the file's tests are done. */
export function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'netimage-test-'))
  after(() => removeTree(directory))
  return directory
}

/** Names for things in `directory` that are new at every call. */
export function freshNames(directory: string): () => string {
  let count = 0
  return () => join(directory, String(++count))
}
