// Store paths for tests that use only the name of a path.

import assert from 'node:assert/strict'
import { toStorePath, type StorePath } from '../../src/nix/store-path.ts'

export function parseStorePathOf(name: string): StorePath {
  const path = toStorePath(`/nix/store/${'0'.repeat(32)}-${name}`)
  assert.ok(path)
  return path
}
