// Assertions about errors of netimage.

import assert from 'node:assert/strict'
import { inspect } from 'node:util'
import { NetimageError, type ErrorCode, type ErrorDetails } from '../../src/errors.ts'

/** A pattern of the message, or some of the details. Other details may have any value. */
export type Expected = RegExp | ErrorDetails

/** Asserts that this is a `NetimageError` with this code that matches all expectations. */
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

/** The same assertion as a function for assert.throws and assert.rejects. */
export function netimageError(code: ErrorCode, ...expected: Expected[]): (error: unknown) => true {
  return (error) => {
    assertError(error, code, ...expected)
    return true
  }
}
