// The commands that restart machines.

import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { suite, test } from 'node:test'
import { restartMachine } from '../../src/serve/restart-machine.ts'
import { assertGone, end } from '../support/processes.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { waitUntil } from '../support/waiting.ts'

const freshName = freshNames(temporaryDirectory())
const never = new AbortController().signal

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
    test(`is ended with all that it started: ${why}`, async (context) => {
      const file = freshName()
      const [ending, late] = [new AbortController(), new AbortController()]
      const timeout = context.mock.method(AbortSignal, 'timeout', () => late.signal)
      const script = `sleep 1000 & echo $! > ${file}.part; mv ${file}.part ${file}; wait`
      const says = restartMachine(['sh', '-c', script], ending.signal, 500)
      await waitUntil('the command runs', () => existsSync(file))
      assert.deepEqual(timeout.mock.calls[0]?.arguments, [500])
      const started = Number(readFileSync(file, 'utf8'))
      if (why === 'late') late.abort()
      else ending.abort()
      const expected = why === 'late' ? /was ended after 0.5 seconds/ : /ended with status SIGTERM/
      assert.match(await says, expected)
      await assertGone(started)
    })
  }

  test('that leaves something running does not keep the server waiting', async () => {
    assert.match(
      await restartMachine(['sh', '-c', 'sleep 1000 & echo done'], never),
      /ended with status 0: done$/,
    )
  })

  test('that leaves a program in another session does not keep the server waiting', async () => {
    const file = freshName()
    const script = `setsid sh -c 'echo $$ > ${file}; exec sleep 1000' & while ! [ -s ${file} ]; do :; done; echo done`
    assert.match(await restartMachine(['sh', '-c', script], never), /ended with status 0: done$/)
    end(Number(readFileSync(file, 'utf8')))
  })
})
