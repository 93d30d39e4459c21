// What tests expect of the errors that people meet.

import assert from 'node:assert/strict'
import { inspect } from 'node:util'
import { NetimageError } from '../../src/errors.ts'
import type { ErrorCode } from '../../src/errors.ts'

/** An error of ours with this code, whose message matches all of these. */
export function assertError(
  error: unknown,
  code: ErrorCode,
  ...messages: RegExp[]
): asserts error is NetimageError {
  assert.ok(error instanceof NetimageError, `not an error of ours: ${inspect(error)}`)
  assert.equal(error.code, code, error.message)
  for (const message of messages) assert.match(error.message, message)
}

/** The same for assert.throws and assert.rejects. */
export function netimageError(code: ErrorCode, ...messages: RegExp[]): (error: unknown) => true {
  return (error) => {
    assertError(error, code, ...messages)
    return true
  }
}
