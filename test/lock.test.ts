// Locks exclude other processes and other users. Waiting for a lock does not block the process.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { tryLock, waitForLock } from '../src/lock.ts'
import { asOrdinaryUser } from './support/namespace.ts'
import { repository } from './support/netimage.ts'
import { freshNames, temporaryDirectory } from './support/temporary.ts'

const directory = temporaryDirectory()
const freshName = freshNames(directory)
const aMinute = 60_000

suite('a lock', () => {
  test('can be shared but not exclusive if the user may not write to the file', () => {
    const file = freshName()
    writeFileSync(file, '')
    chmodSync(file, 0o444)
    chmodSync(directory, 0o755)
    const place = freshName()
    const through = asOrdinaryUser(place)
    const seen = (path: string) => (through.length > 0 ? path.replace(repository, place) : path)
    const program = `
      import { tryLock } from ${JSON.stringify(join(seen(repository), 'src/lock.ts'))}
      const attempt = (kind) => {
        try {
          const lock = tryLock(${JSON.stringify(file)}, kind)
          lock?.release()
          return lock ? 'held' : 'busy'
        } catch (error) {
          return error.code
        }
      }
      console.log(attempt('exclusive'), attempt('shared'))`
    const node = [seen(process.execPath), '--input-type=module', '--eval', program]
    const [command = '', ...rest] = [...through, ...node]
    const run = spawnSync(command, rest, { encoding: 'utf8' })
    assert.equal(run.stdout, 'not-allowed held\n', run.stderr)
  })

  test('does not block the process while it waits', async () => {
    const file = freshName()
    const held = tryLock(file, 'exclusive')
    let isOver = false
    const waiting = waitForLock(file, 'exclusive', aMinute).finally(() => (isOver = true))
    for (let turns = 0; turns < 100; turns++) await turn()
    assert.equal(isOver, false)
    held?.release()
    const lock = await waiting
    assert.ok(lock)
    lock.release()
  })

  test('ends the wait if the signal is aborted', async () => {
    const file = freshName()
    const held = tryLock(file, 'exclusive')
    const abort = new AbortController()
    const waiting = waitForLock(file, 'shared', aMinute, abort.signal)
    await turn()
    const reason = new Error('Ctrl-C')
    abort.abort(reason)
    await assert.rejects(waiting, reason)
    held?.release()
  })

  test('returns undefined if another process keeps the lock', async () => {
    const file = freshName()
    const held = tryLock(file, 'shared')
    assert.equal(await waitForLock(file, 'exclusive', 0), undefined)
    tryLock(file, 'shared')?.release()
    held?.release()
    tryLock(file, 'exclusive')?.release()
  })
})
