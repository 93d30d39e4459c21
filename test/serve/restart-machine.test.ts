// The commands that restart machines.

import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { suite, test } from 'node:test'
import { restartMachine } from '../../src/serve/restart-machine.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { waitUntil } from '../support/waiting.ts'

const freshName = freshNames(temporaryDirectory())
const never = new AbortController().signal

function isRunning(pid: string): boolean {
  try {
    return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ')
  } catch {
    return false
  }
}

suite('a restart command', () => {
  test('runs without a shell, and its status and output are told', async () => {
    const says = await restartMachine(['printf', '%s\n', '$HOME; \u001b[2J', 'two'], never)
    assert.equal(
      says,
      'has run printf %s? $HOME; ?[2J two, which ended with status 0: $HOME; ?[2J / two',
    )
    assert.equal(
      await restartMachine(['sh', '-c', 'echo no >&2; exit 3'], never),
      'has run sh -c echo no >&2; exit 3, which ended with status 3: no',
    )
  })

  test('that cannot be started is told as well', async () => {
    assert.match(
      await restartMachine(['/no/such/program'], never),
      /could not be started: .*ENOENT/,
    )
    assert.match(await restartMachine(['echo', '\0'], never), /could not be started: /)
  })

  for (const why of ['late', 'the server ends'] as const) {
    test(`is ended with all that it started: ${why}`, async () => {
      const file = freshName()
      const ending = new AbortController()
      const script = `sleep 1000 & echo $! > ${file}.part; mv ${file}.part ${file}; wait`
      const says = restartMachine(['sh', '-c', script], ending.signal, why === 'late' ? 500 : 1e6)
      if (why !== 'late') {
        await waitUntil('the command runs', () => existsSync(file))
        ending.abort()
      }
      const expected = why === 'late' ? /was ended after 0.5 seconds/ : /ended with status SIGTERM/
      assert.match(await says, expected)
      // The kernel ends processes a moment after the signal.
      const started = existsSync(file) ? [readFileSync(file, 'utf8').trim()] : []
      await waitUntil('all that it started has ended', () => !started.some(isRunning))
    })
  }

  test('that leaves something running does not keep the server waiting', async () => {
    assert.match(
      await restartMachine(['sh', '-c', 'sleep 1000 & echo done'], never),
      /ended with status 0: done$/,
    )
  })
})
