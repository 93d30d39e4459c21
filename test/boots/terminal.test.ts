// The output of `netimage serve`, on terminals that the kernel makes.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { suite, test } from 'node:test'
import { findProgram } from '../support/packages.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { waitUntil } from '../support/waiting.ts'

const freshName = freshNames(temporaryDirectory())
const program = join(import.meta.dirname, 'support/terminal-program.ts')

function onTerminal(result: string, ...args: string[]) {
  const command = [process.execPath, program, result, ...args].join(' ')
  const child = spawn(findProgram('script'), ['-qec', command, '/dev/null'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  return { child, output: child.stdout }
}

/** The lines that are on the screen at the end. */
function screenOf(written: string): string[] {
  const lines: string[] = ['']
  let at = 0
  for (const [part] of written.matchAll(/\u001b\[\d*[A-Z]|\r|\n|[^\r\n\u001b]+/g)) {
    const [, count = '', order] = /^\u001b\[(\d*)([A-Z])/.exec(part) ?? []
    if (order === 'A') at -= Number(count)
    else if (order === 'J') lines.splice(at, Infinity, '')
    else if (part === '\n') lines[++at] ??= ''
    else if (part !== '\r') lines[at] = part
  }
  return lines
}

suite('on a terminal', () => {
  test('messages stay above the table, which is drawn once', async () => {
    const { output } = onTerminal(freshName())
    const lines = screenOf(await text(output)).map((line) => line.split(/ {2,}/)[0])
    const machines = ['52:54:00:00:00:01', '52:54:00:00:00:02']
    assert.deepEqual(lines, ['error: the disk is full', 'MACHINE', ...machines, ''])
  })

  test('the server does not wait if the terminal is stopped', async () => {
    const result = freshName()
    // A stopped terminal reads nothing more once its buffer is full.
    const { child, output } = onTerminal(result, '300')
    output.pause()
    const ended = new Promise((resolve) => child.once('exit', resolve))
    await waitUntil('the program goes on to its end', () => existsSync(result))
    output.resume()
    await ended
  })
})
