// The wait for the lock of the pool can be interrupted.

import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { tryLock } from '../../src/lock.ts'
import { collectGarbage } from '../../src/pool/gc.ts'
import { openPool } from '../../src/pool/pool.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'

const freshName = freshNames(temporaryDirectory())
const ignore = () => undefined

for (const [what, wait] of [
  ['a build', (pool: string, signal: AbortSignal) => openPool(pool, ignore, signal)],
  [
    'a garbage collection',
    (pool: string, signal: AbortSignal) => collectGarbage(pool, 1, ignore, signal),
  ],
] as const) {
  test(`${what} stops at once, and runs when the pool is free`, async () => {
    const pool = freshName()
    mkdirSync(join(pool, 'trees'), { recursive: true })
    const held = tryLock(join(pool, 'lock'), 'exclusive')
    const abort = new AbortController()
    const waiting = wait(pool, abort.signal)
    for (let turns = 0; turns < 10; turns++) await turn()
    const reason = new Error('Ctrl-C')
    abort.abort(reason)
    await assert.rejects(waiting, reason)
    held?.release()
    const done = await wait(pool, new AbortController().signal)
    if ('close' in done) done.close()
  })
}
