// A Linux machine (User Mode Linux) that mounts an NFS export and runs a shell script: the kernel's
// own client, without firmware, DHCP or a system.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { powerOn, userModeLinux, type PoweredMachine } from '../../e2e/support/machines.ts'
import type { Network } from '../../e2e/support/network.ts'
import { cpioArchive, modes } from '../../support/cpio.ts'
import { findProgram } from '../../support/packages.ts'

export type LinuxClient = {
  name: string
  /** The last byte of its address. */
  host: number
  /** Options of mount(8), added to `vers=3,nolock,proto=tcp`. */
  options: string
  path: string
  /**
   * Busybox runs it after the export is mounted at /mnt; a tmpfs is at /tmp. User and group `one`
   * are 1001; `two` is 1002, and also in group 1003. The machine prints `passed` if the script
   * succeeds.
   */
  script: string
}

const allModules = '/usr/lib/uml/modules'
const neededModules = ['nfsv3']

export async function startLinuxClient(
  network: Network,
  client: LinuxClient,
): Promise<PoweredMachine> {
  const { name, host } = client
  const initrd = join(network.directory, `${name}.cpio`)
  writeFileSync(initrd, makeInitrd(network.server, client))
  const kernel = findProgram('linux.uml')
  const kernelLine = 'loglevel=4 panic=1'
  const machine = userModeLinux({ kernel, initrd, kernelLine })
  const mac = `52:54:00:00:01:${host.toString(16).padStart(2, '0')}`
  return await powerOn(network, { name, mac, machine })
}

function makeInitrd(server: string, { host, options, path, script }: LinuxClient): Buffer {
  const modules = modulesInOrder()
  const init = `#!/bin/busybox sh
export PATH=/bin
busybox mount -t proc proc /proc
busybox --install -s /bin
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs -o mode=755 tmpfs /tmp
fail() { echo "failed: $*"; poweroff -f; }
${modules.map((file) => `insmod /modules/${basename(file)} || fail insmod`).join('\n')}
ip link set lo up
ip link set vec0 up
ip address add 10.66.0.${host}/24 broadcast + dev vec0
mount -t nfs -o vers=3,nolock,proto=tcp,addr=${server}${options} ${server}:${path} /mnt || fail mount
cd /
if sh /script; then echo passed; else echo "failed: status $?"; fi
umount /mnt
poweroff -f
`
  const directories = ['bin', 'dev', 'etc', 'mnt', 'modules', 'proc', 'sys', 'tmp']
  return cpioArchive([
    ...directories.map((name) => ({ name, mode: modes.directory })),
    { name: 'bin/busybox', mode: modes.program, data: readFileSync(findProgram('busybox')) },
    { name: 'etc/passwd', data: passwd },
    { name: 'etc/group', data: group },
    ...modules.map((file) => ({ name: `modules/${basename(file)}`, data: readFileSync(file) })),
    { name: 'script', data: script },
    { name: 'init', mode: modes.program, data: init },
  ])
}

const passwd = `root:x:0:0:::/bin/sh
one:x:1001:1001:::/bin/sh
two:x:1002:1002:::/bin/sh
`
const group = `root:x:0:
one:x:1001:
two:x:1002:
three:x:1003:two
`

/**
 * Modules of the kernel, each after its own dependencies.
 *
 * @param names by default those of NFS
 * @returns the paths of their files
 */
export function modulesInOrder(names: readonly string[] = neededModules): string[] {
  const [version = ''] = readdirSync(allModules)
  const lines = readFileSync(join(allModules, version, 'modules.dep'), 'utf8')
    .trim()
    .split('\n')
  return names.flatMap((name) => {
    const line = lines.find((line) => line.split(':')[0]?.endsWith(`/${name}.ko`)) ?? ''
    const [module = '', dependencies = ''] = line.split(':')
    const files = [module, ...dependencies.trim().split(' ')].filter((file) => file !== '')
    return files.toReversed().map((file) => join(allModules, version, file))
  })
}
