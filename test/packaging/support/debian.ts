// A fresh Debian, started with its own systemd and without a network. All that is written there is lost.

import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { cacheDirectory } from '../../e2e/support/cache.ts'

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

/**
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
  const cache = cacheDirectory('packaging')
  const fetch = join(supportDirectory, 'fetch-debian.sh')
  const root = execFileSync('sh', [fetch, cache], { encoding: 'utf8' }).trim()
  mkdirSync(directory, { recursive: true })
  for (const [name, file] of Object.entries(files)) copyFileSync(file, join(directory, name))
  writeFileSync(join(directory, 'script'), `${script}\necho 'all of it was done'\n`)
  writeFileSync(join(directory, 'unit'), unit)
  const binds = [
    `--bind=${directory}:/shared`,
    `--bind-ro=${join(directory, 'unit')}:/etc/systemd/system/script.service`,
  ]
  const place = ['--quiet', '--register=no', '--keep-unit', '--private-network', '--console=pipe']
  const boot = [
    '--volatile=overlay',
    `--directory=${root}`,
    '--boot',
    'systemd.wants=script.service',
  ]
  // If the test is killed, so is all of this: the container would go on.
  const alone = ['--mount', '--pid', '--fork', '--kill-child', '--mount-proc']
  const nspawn = [...alone, 'systemd-nspawn', ...place, ...binds, ...boot]
  let console = ''
  try {
    console = execFileSync('unshare', nspawn, {
      ...{ encoding: 'utf8', timeout: 300_000, stdio: 'pipe' },
      // unshare does nothing at SIGTERM while it waits.
      killSignal: 'SIGKILL',
    })
  } catch (error) {
    console = String(error)
  }
  const output = readFileSync(join(directory, 'output'), 'utf8')
  if (output.endsWith('all of it was done\n')) return output
  throw new Error(`The script failed in Debian:\n${output}\n${console}`)
}
