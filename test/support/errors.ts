// What tests expect of the errors that people meet.

import assert from 'node:assert/strict'
import { inspect } from 'node:util'
import { NetimageError, type ErrorCode, type ErrorDetails } from '../../src/errors.ts'

/** A pattern of the message, or what the error is about: what is not named may be anything. */
export type Expected = RegExp | ErrorDetails

/** An error of ours with this code, which fits to all of these. */
export function assertError(
  error: unknown,
  code: ErrorCode,
  ...expected: Expected[]
): asserts error is NetimageError {
  assert.ok(error instanceof NetimageError, `not an error of ours: ${inspect(error)}`)
  assert.equal(error.code, code, error.message)
  for (const part of expected) {
    if (part instanceof RegExp) assert.match(error.message, part)
    else assert.partialDeepStrictEqual(error.details, part, error.message)
  }
}

/** The same for assert.throws and assert.rejects. */
export function netimageError(code: ErrorCode, ...expected: Expected[]): (error: unknown) => true {
  return (error) => {
    assertError(error, code, ...expected)
    return true
  }
}
