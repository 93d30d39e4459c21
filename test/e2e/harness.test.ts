// The boot harness itself: its behaviour if something goes wrong in another test.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { readdir, readlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { text } from 'node:stream/consumers'
import { suite, test } from 'node:test'
import { findProgram } from '../support/packages.ts'
import { childrenOf } from '../support/processes.ts'
import { openNetwork } from './support/network.ts'
import { startRecording } from './support/recording.ts'
import { waitUntil } from '../support/waiting.ts'

suite('the boot harness', () => {
  test('fails a waiting test at once if the program ends, and shows its last lines', async () => {
    await using network = await openNetwork('harness-end')
    const program = network.start('short', ['sh', '-c', 'echo one; echo two >&2; exit 3'])
    await assert.rejects(
      program.waitFor(/three/),
      /short ended with status 3 before it printed \/three\/.*\n.* one\n.* two/,
    )
  })

  test('fails a waiting test at once if the program prints its line of failure', async () => {
    await using network = await openNetwork('harness-sign')
    const program = network.start('lost', ['sh', '-c', 'echo No boot; sleep 60'], /^No boot$/)
    await assert.rejects(program.waitFor(/booted/), /lost gave up \("No boot"\)/)
  })

  test('ends the waits of a test or suite that has failed, or that reached its limit, and tells them', async (context) => {
    const [waiting, recording] = ['../support/waiting.ts', 'support/recording.ts'].map((name) =>
      JSON.stringify(join(import.meta.dirname, name)),
    )
    const program = `
      import { before, suite, test } from 'node:test'
      import { waitFor, waitUntil } from ${waiting}
      import { startRecording } from ${recording}
      const never = new Promise(() => {})
      const failing = () => Promise.reject(new Error('it failed'))
      test('fails', () => Promise.all([waitUntil('the sign', () => false), failing()]))
      suite('has a hook that fails', () => {
        before(() => Promise.all([waitFor('the event', never), failing()]))
        test('does not begin', () => {})
      })
      test('reaches its limit', { timeout: 1 }, () => waitFor('the last event', never))
      test('waits for a line', () => {
        const recording = startRecording({ describe: (what) => 'it ' + what, onLine: () => {} })
        return Promise.all([recording.waitFor(/awake/), failing()])
      })`
    const { NODE_TEST_CONTEXT: _, ...env } = process.env
    const child = spawn(
      process.execPath,
      ['--test-reporter=tap', '--input-type=module', '--eval', program],
      { stdio: ['ignore', 'pipe', 'inherit'], env },
    )
    context.after(() => child.kill('SIGKILL'))
    const output = await text(child.stdout)
    for (const told of ['the sign', 'the event', 'the last event', 'it has not printed /awake/']) {
      const line = `# The test has ended while it waited for this: ${told}`
      assert.ok(output.includes(line), `${line}\n${output}`)
    }
    assert.match(output, /^# fail 2$/m)
    assert.match(output, /^# cancelled 2$/m)
  })

  test('finds lines that came before, and prompts, and types an answer', async () => {
    await using network = await openNetwork('harness-prompt')
    const script = 'echo first; printf "=> "; read answer; echo "got $answer"; sleep 60'
    const program = network.start('prompt', ['sh', '-c', script])
    await program.waitFor(/^=> ?$/)
    await program.waitFor(/^first$/)
    program.type('boot\n')
    await program.waitFor(/got boot$/)
  })

  test('begins a line at a move of the cursor, unless the cursor is there already', () => {
    const output =
      'PX\x1b[25;2H\x1b[25;3HELINUX\x1b[3;20HMenu\x1b[4;1Hboo\x1b[4;3Hot\x1b[4;4H\nTy\x1b' +
      '\x1b[5;3H[5;3Hpe a\x1b[5;\x1b[5;6H7H key\nLoading\x1b[12;8H\x1b[?25h done\nabc\x1b(Bdef\n  \x1b\x1b[6;03H[6;03Hlabel\nEnd\n'
    // The output comes in parts of any size.
    const partings = [
      ...Array.from({ length: output.length }, (_, at) => [output.slice(0, at), output.slice(at)]),
      output.split(''),
    ]
    for (const parts of partings) {
      const recording = startRecording({ describe: (what) => what, onLine: () => {} })
      for (const part of parts) recording.add(part)
      assert.deepEqual(
        recording.lines().map(({ text }) => text),
        ['PXELINUX', 'Menu', 'boot', 'Type a key', 'Loading done', 'abcdef', '  label', 'End'],
        JSON.stringify(parts),
      )
    }
  })

  test('gets each character of a program that drops what it cannot write, also if it is busy', async (context) => {
    const directory = mkdtempSync(join(tmpdir(), 'netimage-harness-test-'))
    context.after(() => rmSync(directory, { recursive: true }))
    const done = join(directory, 'done')
    await using network = await openNetwork('harness-dropped')
    // QEMU writes the console of a machine like this: it never waits, and writes single characters.
    const script = `use Fcntl; $| = 1; fcntl(STDOUT, F_SETFL, O_NONBLOCK);
      syswrite(STDOUT, chr(97 + $_ % 26)) for 0 .. 9999; open(my $file, '>', '${done}')`
    const program = network.start('console', ['perl', '-e', script])
    const pause = new Int32Array(new SharedArrayBuffer(4))
    while (!existsSync(done)) Atomics.wait(pause, 0, 0, 10)
    await program.waitForEnd()
    const alphabet = 'abcdefghijklmnopqrstuvwxyz'
    const text = program
      .lines()
      .map((line) => line.text)
      .join('')
    assert.equal(text, alphabet.repeat(385).slice(0, 10_000))
  })

  test('separates two networks with the same addresses', async () => {
    await using one = await openNetwork('harness-one')
    await using two = await openNetwork('harness-two')
    const listen = [findProgram('busybox'), 'httpd', '-f', '-p', `${one.server}:7`]
    const listener = one.start('listener', listen)
    await waitUntil('it listens', () => one.listens('tcp', 7) || !listener.isRunning())
    assert.ok(one.listens('tcp', 7), listener.tail(10))
    assert.equal(two.listens('tcp', 7), false)
  })

  test('kills a program together with all programs that it started', async () => {
    await using network = await openNetwork('harness-kill')
    const script = 'sleep 1000 & setsid sleep 1000 & echo ready; wait'
    const program = network.start('parent', ['sh', '-c', script])
    await program.waitFor(/^ready$/)
    const namespace = await processNamespace(program.pid)
    await program.kill()
    assert.deepEqual(await processesIn(namespace), [])
  })

  test('leaves no program running if the test itself is killed', async (context) => {
    const directory = mkdtempSync(join(tmpdir(), 'netimage-harness-test-'))
    context.after(() => rmSync(directory, { recursive: true }))
    const program = join(import.meta.dirname, 'support', 'network.ts')
    const script = `
      const { openNetwork } = await import(${JSON.stringify(program)})
      const network = await openNetwork('harness-killed')
      const sleeper = network.start('sleeper', ['sh', '-c', 'echo ready; sleep 1000'])
      await sleeper.waitFor(/ready/)
      console.log(sleeper.pid)`
    const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, TMPDIR: directory },
    })
    const [line]: unknown[] = await once(createInterface(child.stdout), 'line')
    const pid = Number(line)
    const namespace = await processNamespace(pid)
    child.kill('SIGKILL')
    await once(child, 'close')
    await waitUntil('the program ends as well', () => !existsSync(`/proc/${pid}`))
    // The kernel ends the other processes of the namespace after the program.
    await waitUntil('all of them end', async () => (await processesIn(namespace)).length === 0)
  })

  test('names the Debian package of a missing program', () => {
    const path = process.env['PATH']
    process.env['PATH'] = ''
    try {
      assert.throws(
        () => findProgram('qemu-system-no-such'),
        /debian-packages names no package for "qemu-system-no-such"/,
      )
      assert.throws(
        () => findProgram('nix-store'),
        /^Error: The program "nix-store" is missing: install the Debian package nix-bin\.$/,
      )
    } finally {
      process.env['PATH'] = path
    }
  })
})

/** The process namespace of a program. Its first child is in this namespace. */
function processNamespace(pid: number): Promise<string> {
  const [first] = childrenOf(pid)
  return readlink(`/proc/${first}/ns/pid`)
}

async function processesIn(namespace: string): Promise<string[]> {
  const found: string[] = []
  for (const name of await readdir('/proc')) {
    const own = await readlink(`/proc/${name}/ns/pid`).catch(() => undefined)
    if (own === namespace) found.push(name)
  }
  return found
}
