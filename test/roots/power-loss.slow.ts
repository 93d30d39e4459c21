// The server's machine loses its power, at any moment. Either a User Mode Linux kernel with ext4 on a disk
// of its own is killed, or an ext4 is shut down. Everything that was not written to that disk is lost.

import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { startProgram } from '../e2e/support/program.ts'
import { userModeLinuxCommand } from '../e2e/support/user-mode-linux.ts'
import { mounted } from '../support/namespace.ts'
import { findProgram } from '../support/packages.ts'
import { temporaryDirectory } from '../support/temporary.ts'
import { cutAgainAndAgain } from './support/layer-cut.ts'
import { writeImageTree } from './support/layer-operations.ts'

const work = join(import.meta.dirname, 'support/layer-work-program.ts')
const run = promisify(execFile)
const rounds = 4
const seed = 3

/** A layer gives each file the mode that the operation names, so the operations on a directory do as well. */
async function withoutUmask<T>(action: () => T | Promise<T>): Promise<T> {
  const umask = process.umask(0)
  try {
    return await action()
  } finally {
    process.umask(umask)
  }
}

test('everything that a layer acknowledged survives a loss of power', async () => {
  const directory = temporaryDirectory()
  const at = (name: string) => join(directory, name)
  await withoutUmask(() => writeImageTree(at('image')))
  execFileSync('cp', ['-a', at('image'), at('local')])
  const disk = at('disk')
  writeFileSync(disk, '')
  execFileSync(findProgram('mke2fs'), ['-q', '-t', 'ext4', disk, '64M'])
  mkdirSync(at('mounted'))
  // The kernel sees the files of this machine (read-only) and its own disk.
  const command = [process.execPath, work, at('mounted/layer'), at('image'), String(seed)]
  writeFileSync(
    at('init'),
    `#!/bin/sh
export PATH=/usr/bin:/bin:/usr/sbin:/sbin
stty -echo
mount -t proc proc /proc
mount -t ext4 /dev/ubda '${at('mounted')}' && exec ${command.map((part) => `'${part}'`).join(' ')}
`,
  )
  chmodSync(at('init'), 0o755)
  mkdirSync(at('uml'))
  const machine = userModeLinuxCommand({
    ...{ directory: at('uml'), memory: '512M', init: at('init') },
    line: [`ubda=${disk}`],
  })
  const start = () =>
    startProgram({
      name: 'machine',
      command: [
        ...[findProgram('unshare'), '--mount', '--mount-proc', '--pid', '--fork'],
        ...['--kill-child', 'sh', '-c', '"$@"; exit $?', 'sh', ...machine],
      ],
      log: at('log'),
      others: () => [],
      hopeless: /Kernel panic/,
    })
  const done = await withoutUmask(() =>
    cutAgainAndAgain({ rounds, seed, local: at('local'), longestMs: 2000, start }),
  )
  assert.ok(done > 10 * rounds, String(done))
})

test('a binding in which the power fails has lost nothing, and the next opening goes on', async () => {
  const directory = temporaryDirectory()
  const program = join(import.meta.dirname, 'support/power-loss-program.ts')
  const [command = '', ...args] = mounted('mount -t tmpfs memory "$1"', directory)
  const { stdout } = await run(command, [...args, process.execPath, program, directory])
  // With a log that was written, the layer may be bound before all of its steps are done.
  assert.match(stdout, /^lost: before \d{2}, after [12]\nwritten: before \d{2}, after [12]\n$/)
})
