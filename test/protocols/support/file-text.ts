// The text of a file that is shared, so its position must stay.

import assert from 'node:assert/strict'
import { readSync } from 'node:fs'
import type { SharedFile } from '../../../src/protocols/shared-files.ts'

export function textOf({ fd, size, content }: SharedFile): string {
  const bytes = Buffer.alloc(size)
  readSync(fd, bytes, 0, size, 0)
  assert.ok(!content || content.equals(bytes))
  return bytes.toString()
}
