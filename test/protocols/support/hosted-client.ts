// A Linux machine (User Mode Linux) that has all programs of this machine: its root is the root of
// this machine, read-only. It also mounts an NFS export.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { powerOn, type PoweredMachine } from '../../e2e/support/machines.ts'
import type { Network } from '../../e2e/support/network.ts'
import { userModeLinuxCommand } from '../../e2e/support/user-mode-linux.ts'
import { modulesInOrder } from './linux-client.ts'

export type HostedClient = {
  name: string
  /** The last byte of its address. */
  host: number
  path: string
  /** Options of mount(8), added to `vers=3,nolock,proto=tcp`. */
  options: string
  /**
   * Runs in /mnt, which is a tmpfs, after the export is mounted at /mnt/there. The machine prints
   * `passed` if the script succeeds.
   */
  script: string
}

export async function startHostedClient(
  network: Network,
  { name, host, path, options, script }: HostedClient,
): Promise<PoweredMachine> {
  const { server } = network
  const init = join(network.directory, `${name}.sh`)
  const program = `#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/mnt/home TMPDIR=/mnt/tmp
fail() { echo "failed: $*"; busybox poweroff -f; }
mount -t proc proc /proc
mount -t tmpfs tmpfs /mnt
mkdir /mnt/there /mnt/tmp /mnt/home
${modulesInOrder()
  .map((file) => `insmod ${file} || fail insmod`)
  .join('\n')}
ip link set lo up
ip link set vec0 up
ip address add 10.66.0.${host}/24 broadcast + dev vec0
busybox mount -t nfs -o vers=3,nolock,proto=tcp,addr=${server}${options} ${server}:${path} /mnt/there ||
  fail mount
cd /mnt
if (
${script}
); then echo passed; else echo "failed: status $?"; fi
cd /
umount /mnt/there
busybox poweroff -f
`
  writeFileSync(init, program, { mode: 0o755 })
  const mac = `52:54:00:00:01:${host.toString(16).padStart(2, '0')}`
  return await powerOn(network, {
    name,
    mac,
    machine: {
      command: ({ tap, directory }) =>
        userModeLinuxCommand({
          ...{ directory, memory: '1G', init },
          line: [`vec0:transport=tap,ifname=${tap},depth=128,gro=1,mac=${mac}`],
        }),
      givesUp: /^failed: /,
    },
  })
}
