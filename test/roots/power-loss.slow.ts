// The server's machine loses its power, at any moment. Either a User Mode Linux kernel with ext4 on a disk
// of its own is killed, or an ext4 is shut down. Everything that was not written to that disk is lost.

import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { findProgram } from '../e2e/support/packages.ts'
import { startProgram } from '../e2e/support/program.ts'
import { userModeLinuxCommand } from '../e2e/support/user-mode-linux.ts'
import { mounted } from '../support/namespace.ts'
import { temporaryDirectory } from '../support/temporary.ts'
import { cutAgainAndAgain } from './support/layer-cut.ts'
import { writeImageTree } from './support/layer-operations.ts'

const work = join(import.meta.dirname, 'support/layer-work-program.ts')
const run = promisify(execFile)
const rounds = 4
const seed = 3

test('everything that a layer acknowledged survives a loss of power', async () => {
  process.umask(0)
  const directory = temporaryDirectory()
  const at = (name: string) => join(directory, name)
  writeImageTree(at('image'))
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
  const machine = [
    ...[...userModeLinuxCommand(), 'mem=512M', `ubda=${disk}`, `uml_dir=${at('uml')}`],
    ...['root=/dev/root', 'rootfstype=hostfs', 'rootflags=/', 'ro', `init=${at('init')}`],
    ...['con0=fd:0,fd:1', 'con=null', 'panic=-1', 'loglevel=4'],
  ]
  const done = await cutAgainAndAgain({
    ...{ rounds, seed, local: at('local'), longestMs: 2000 },
    start: () =>
      startProgram({
        name: 'machine',
        command: [
          ...[findProgram('unshare'), '--mount', '--mount-proc', '--pid', '--fork'],
          ...['--kill-child', 'sh', '-c', '"$@"; exit $?', 'sh', ...machine],
        ],
        log: at('log'),
        others: () => [],
        hopeless: /Kernel panic/,
      }),
  })
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
