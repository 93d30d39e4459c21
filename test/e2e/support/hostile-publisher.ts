// A machine that publishes what is no system, again and again: the kernel's own client of NFS.

import assert from 'node:assert/strict'
import { startLinuxClient } from '../../protocols/support/linux-client.ts'
import type { Network } from './network.ts'

export type HostilePublisher = {
  /** Ends it, and waits until its last request is answered. @returns the answers by name */
  end: () => Promise<Map<string, string>>
}

const toplevel = `/nix/store/${'a'.repeat(32)}-nixos-system-hostile`

const stub = 'systemd/lib/systemd/boot/efi'

/** It publishes so many systems at most after these, without waiting for answers. */
const maxFlood = 10_000

/** What the machine puts at the place of its kernel and its initrd, and what it publishes. */
type Hostile = { kernel?: string; initrd?: string; request?: string }

const requestOf = (named: string, id: string) => JSON.stringify({ version: 1, id, toplevel: named })

/**
 * @param secret the path of a file of the server
 * @param others a store path that the server has, but that is not of this machine
 */
export async function startHostilePublisher(
  network: Network,
  { secret, others }: { secret: string; others: string },
): Promise<HostilePublisher> {
  const hostile: Record<string, Hostile> = {
    'no-json': { request: '{' },
    'out-of-the-store': { request: requestOf('/nix/store/../../etc/shadow', 'out-of-the-store') },
    'of-another': { request: requestOf(others, 'of-another') },
    'link-out': { kernel: `ln -s ../../../../../../../..${secret}` },
    fifo: { kernel: 'mkfifo' },
    directory: { kernel: 'mkdir' },
    'large-initrd': { initrd: 'truncate -s 2G' },
  }
  const machine = await startLinuxClient(network, {
    ...{ name: 'hostile', host: 66, options: '', path: '/srv/alpha' },
    script: scriptOf(hostile),
  })
  await machine.waitFor(/^begun$/)
  return {
    async end() {
      machine.type('end\n')
      await machine.waitFor(/^passed$/)
      const answers = new Map<string, string>()
      for (const { text } of machine.lines()) {
        const [, name, answer] = /^answer of (\S+): (.*)$/.exec(text) ?? []
        if (name !== undefined && answer !== undefined) answers.set(name, answer)
      }
      assert.deepEqual([...answers.keys()], [...Object.keys(hostile), 'last'])
      return answers
    },
  }
}

function scriptOf(hostile: Record<string, Hostile>): string {
  const entry = {
    ...{ system: 'x86_64-linux', label: 'x', toplevel, init: `${toplevel}/init` },
    ...{ kernel: `${toplevel}/kernel`, initrd: `${toplevel}/initrd`, kernelParams: [] },
  }
  const turns = Object.entries(hostile).map(([name, { kernel, initrd, request }]) => {
    const make = (what: string, command = 'echo x >') => `rm -rf ${what}; ${command} ${what}`
    const asked = request ?? requestOf(toplevel, name)
    return `
${make('kernel', kernel)}
${make('initrd', initrd)}
ask '${asked}'
wait_for ${name === 'no-json' ? 'unknown' : name} ${name}`
  })
  return `set -e
publish=/mnt/nix/var/netimage/publish
mkdir -p $publish /mnt${toplevel}
cd /mnt${toplevel}
echo x > init
# Without a stub for UEFI, the server would refuse all of these for this reason.
mkdir -p ${stub}
echo x > ${stub}/linuxx64.efi.stub
echo '${JSON.stringify({ 'org.nixos.bootspec.v1': entry })}' > boot.json
printf "%4096s" "" > $publish/answer
ask() {
  echo "$1" > $publish/request.new
  mv $publish/request.new $publish/request
}
# The file is opened again each time, so that NFS asks the server if it has changed.
wait_for() { # wait_for ID NAME
  until grep -q "^id $1$" $publish/answer && grep -q '^status refused' $publish/answer; do
    usleep 200000
  done
  echo "answer of $2: $(grep '^say' $publish/answer | tr '\\n' ' ')"
}
echo begun
${turns.join('\n')}
( count=0
  while [ $count -lt ${maxFlood} ] && [ ! -e /tmp/ended ]; do
    count=$((count + 1))
    ask "$(printf '${requestOf(toplevel, 'flood-%s')}' $count)"
  done
  echo "flood of $count" ) &
read word
touch /tmp/ended
wait
ask '${requestOf(toplevel, 'last')}'
wait_for last last
`
}
