// A fresh Debian, started with its own systemd. All that is written there is lost.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { cacheDirectory } from '../../e2e/support/cache.ts'
import type { Network } from '../../e2e/support/network.ts'
import { startProgram, type Program } from '../../e2e/support/program.ts'

const supportDirectory = import.meta.dirname

/** Ends the container with its only service. */
const unit = `[Unit]
After=multi-user.target
SuccessAction=exit
FailureAction=exit
[Service]
Type=oneshot
Environment=HOME=/root
WorkingDirectory=/root
ExecStart=/bin/bash -eu /shared/script
StandardOutput=file:/shared/output
StandardError=inherit
`

/** A container that is prepared: the command that starts it, and what its script has printed by then. */
type Container = { command: string[]; readOutput: () => string }

/**
 * Runs a script in a container without a network.
 *
 * @param script for bash, run by root
 * @param directory an empty one
 * @param files names in /shared, and where they are here
 * @returns what the script printed
 * @throws with all of it if a command fails
 */
export function runInDebian(
  script: string,
  directory: string,
  files: Readonly<Record<string, string>>,
): string {
  const { command, readOutput } = prepare(script, directory, files, ['--private-network'])
  let console = ''
  try {
    console = execFileSync('unshare', [...alone, ...command], {
      ...{ encoding: 'utf8', timeout: 300_000, stdio: 'pipe' },
      // unshare does nothing at SIGTERM while it waits.
      killSignal: 'SIGKILL',
    })
  } catch (error) {
    console = String(error)
  }
  return wholeOutput(readOutput(), console)
}

/** Commands for the shell, and what they must print. */
type Step = { commands: string; expected: RegExp | readonly (RegExp | string)[] }

/** Carries out steps in one shell in one such container, and compares what each step has printed. */
export function followInDebian(
  steps: readonly Step[],
  directory: string,
  files: Readonly<Record<string, string>>,
): void {
  const script = steps.map(({ commands }) => `${commands}\necho '${endOfStep}'`).join('\n')
  const printed = runInDebian(script, directory, files).split(`${endOfStep}\n`)
  for (const [at, { commands, expected }] of steps.entries()) {
    const output = printed[at] ?? ''
    for (const each of [expected].flat()) {
      const isThere = typeof each === 'string' ? output.includes(each) : each.test(output)
      assert.ok(isThere, `${each} is not in what these commands print:${commands}\n\n${output}`)
    }
  }
}

const endOfStep = '--- this step was done'

/**
 * Starts the same in a container that is the server of a network. The test goes on meanwhile.
 *
 * @returns the container, and what its script printed
 */
export async function startInDebian(
  network: Network,
  script: string,
  directory: string,
  files: Readonly<Record<string, string>>,
): Promise<{ container: Program; output: Promise<string> }> {
  // Not from within: the directories of the network hide what systemd needs of this machine.
  const inside = network.start('namespace', ['sh', '-c', 'echo ready; exec sleep infinity'])
  await inside.waitFor(/^ready$/)
  const { command, readOutput } = prepare(script, directory, files, [])
  const enter = ['nsenter', `--net=/proc/${inside.pid}/ns/net`]
  const container = startProgram({
    ...{ name: 'debian', command: [...enter, 'unshare', ...alone, ...command] },
    ...{ log: join(directory, 'console'), others: () => [] },
  })
  const output = container.waitForEnd().then(
    () => wholeOutput(readOutput(), ''),
    (error: unknown) => wholeOutput(readOutput(), String(error)),
  )
  return { container, output }
}

/** If the test is killed, so is all of this: the container would go on. */
const alone = ['--mount', '--pid', '--fork', '--kill-child', '--mount-proc']

function prepare(
  script: string,
  directory: string,
  files: Readonly<Record<string, string>>,
  how: readonly string[],
): Container {
  const cache = cacheDirectory('packaging')
  const fetch = join(supportDirectory, 'fetch-debian.sh')
  const root = execFileSync('sh', [fetch, cache], { encoding: 'utf8' }).trim()
  mkdirSync(directory, { recursive: true })
  for (const [name, file] of Object.entries(files)) copyFileSync(file, join(directory, name))
  writeFileSync(join(directory, 'script'), `${script}\n${lastCommand}\n`)
  writeFileSync(join(directory, 'unit'), unit)
  writeFileSync(join(directory, 'output'), '')
  const binds = [
    `--bind=${directory}:/shared`,
    `--bind-ro=${join(directory, 'unit')}:/etc/systemd/system/script.service`,
  ]
  const place = ['--quiet', '--register=no', '--keep-unit', '--console=pipe', ...how]
  const boot = [
    '--volatile=overlay',
    `--directory=${root}`,
    '--boot',
    'systemd.wants=script.service',
  ]
  return {
    command: ['systemd-nspawn', ...place, ...binds, ...boot],
    readOutput: () => readFileSync(join(directory, 'output'), 'utf8'),
  }
}

const lastCommand = "echo 'all of it was done'"

function wholeOutput(output: string, console: string): string {
  if (output.endsWith('all of it was done\n')) return output
  throw new Error(`The script failed in Debian:\n${output}\n${console}`)
}
