// What belongs to a machine, and must live through its updates.

import assert from 'node:assert/strict'
import type { DemoImage } from './demo-image.ts'
import { kernelOf } from './generations.ts'
import type { Shell } from './shell.ts'

const hostKey = '/etc/ssh/ssh_host_ed25519_key'

const make = [
  'mkdir -p /etc/ssh /var/lib/shop /tmp/own-1.0/bin',
  'tr -d - < /proc/sys/kernel/random/uuid > /etc/machine-id',
  `head -c 48 /dev/urandom | base64 > ${hostKey}`,
  `chmod 600 ${hostKey}`,
  'echo "an order" > /var/lib/shop/orders',
  // A program that the machine adds to its store, in the profile of its user.
  'printf "#!/bin/sh\\necho the own program runs\\n" > /tmp/own-1.0/bin/own',
  'chmod +x /tmp/own-1.0/bin/own',
  'nix-env --install "$(nix-store --add /tmp/own-1.0)"',
  // The power may be cut next.
  'sync',
]

const show = [
  `cat /etc/machine-id ${hostKey} /var/lib/shop/orders`,
  `stat -c "%a of %u" ${hostKey}`,
  '/root/.nix-profile/bin/own',
]

/** @returns what the machine shows of its own files */
export async function makeOwnFiles(shell: Shell): Promise<string[]> {
  await shell.run(make.join(' && '))
  const own = await showOwnFiles(shell)
  assert.equal(own.at(-1), 'the own program runs')
  return own
}

export async function showOwnFiles(shell: Shell): Promise<string[]> {
  return await shell.run(show.join(' && '))
}

/** The kernel, the kernel line and the booted system must be those of one image. */
export async function assertRuns(shell: Shell, image: DemoImage, toplevel?: string): Promise<void> {
  const system = toplevel ?? image.manifest.system.toplevel
  const commands = ['uname -r', 'readlink /run/booted-system', 'cat /proc/cmdline']
  const [kernel, booted, line = ''] = await shell.run(commands.join(' && '))
  assert.deepEqual([kernel, booted], [kernelOf(image), system])
  assert.ok(line.split(' ').includes(`init=${system}/init`), line)
}

/** Real Nix must find every path of its store whole, and know all of the image. */
export async function assertStoreIsWhole(shell: Shell, image: DemoImage): Promise<void> {
  const { toplevel } = image.manifest.system
  const said = await shell.run('nix-store --verify --check-contents')
  assert.deepEqual(
    said.filter((line) => /error|warning|missing|modified|disappeared/.test(line)),
    [],
  )
  const known = await shell.run(`nix-store --query --requisites ${toplevel} | wc -l`)
  assert.deepEqual(known, [String(image.manifest.closure.length)])
}

/** With this word on its kernel line, a system fails in the unit that checks its boot. */
export const failsCheck = 'demo.fail-check'

/**
 * Lets real Nix in the machine build another system from one that is in its store, as nixos-rebuild
 * does. The check of its boot fails.
 *
 * @returns the toplevel
 */
export async function buildInMachine(shell: Shell, base: string): Promise<string> {
  const files = 'init activate boot.json bin/switch-to-configuration'
  const script = [
    ...['cp -r $base $out', 'chmod -R u+w $out', 'cd $out'],
    `sed -i "s|$base|$out|g" ${files}`,
    String.raw`sed -i "s|\"loglevel=4\"|&,\"${failsCheck}\"|" boot.json`,
  ]
  const expression = [
    'derivation {',
    'name = "nixos-system-own"; system = builtins.currentSystem; builder = "/bin/sh";',
    `args = [ "-euc" (builtins.getEnv "script") ]; base = builtins.storePath "${base}";`,
    'PATH = "/run/current-system/sw/bin"; }',
  ]
  const build = `nix-build --no-out-link --expr '${expression.join(' ')}'`
  const said = await shell.run(`script='${script.join('; ')}' ${build}`)
  const path = said.at(-1) ?? ''
  assert.match(path, /^\/nix\/store\/\w{32}-nixos-system-own$/)
  return path
}
