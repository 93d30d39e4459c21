// The kernel's NFS server. A machine can have only one, so it runs in a separate machine.

import { appendFileSync, copyFileSync } from 'node:fs'
import { join } from 'node:path'
import { cpioMember, modes, trailer, type CpioFile } from '../../support/cpio.ts'
import { findProgram } from '../../support/packages.ts'
import { runProgram } from '../../support/real-nix.ts'
import { cacheDirectory } from './cache.ts'
import { powerOn, x86Direct, type Machine, type PoweredMachine } from './machines.ts'
import type { Network } from './network.ts'

export type KernelNfsServer = {
  /** The address and the prefix length of the machine, as in `10.66.0.2/24`. */
  address: string
  /** The root tree to serve; it is copied with its owners. */
  rootTree: string
  /** The path of the root tree on the server. */
  path: string
  /** The text of a file in /etc/exports.d. */
  exports: string
  /** A shell script that runs beside the server, in the root tree. */
  beside?: string
}

export async function startKernelNfsServer(
  network: Network,
  { address, rootTree, path, exports, beside }: KernelNfsServer,
): Promise<PoweredMachine> {
  const script = join(import.meta.dirname, 'fetch-nfs-server.sh')
  const fetched = (await runProgram('sh', [script, cacheDirectory('nfs-server')])).trim()
  const files: CpioFile[] = [
    { name: 'etc', mode: modes.directory },
    { name: 'etc/address', data: address },
    { name: 'etc/root', data: path },
    { name: 'etc/exports.d', mode: modes.directory },
    { name: 'etc/exports.d/netimage.exports', data: exports },
    ...(beside === undefined ? [] : [beforeInit(path, beside)]),
    trailer,
  ]
  // An initrd may be several archives, one after the other.
  const initrd = join(network.directory, 'initrd')
  copyFileSync(join(fetched, 'initrd'), initrd)
  appendFileSync(initrd, Buffer.concat(files.map((file) => cpioMember(file))))
  const disk = join(network.directory, 'root.ext4')
  await runProgram(findProgram('mke2fs'), ['-q', '-t', 'ext4', '-d', rootTree, disk, '1G'])

  const line = beside === undefined ? kernelLine : `${kernelLine} rdinit=/before-init`
  const kernel = { kernel: join(fetched, 'kernel'), initrd, kernelLine: line }
  const machine = withDisk(x86Direct(kernel), disk)
  const server = await powerOn(network, { name: 'nfs-server', mac: '52:54:00:00:ff:01', machine })
  await server.waitFor(/nfs-server: ready/)
  return server
}

const kernelLine = 'console=ttyS0 no_timer_check quiet panic=-1'

function beforeInit(path: string, beside: string): CpioFile {
  // A shell gives /dev/null to what it starts beside itself.
  const script = `#!/bin/busybox sh
busybox mkdir -p /dev
busybox mknod /dev/null c 1 3
{
  until busybox grep -qs " ${path} " /proc/mounts; do busybox sleep 0.1; done
  cd ${path}
  ${beside}
} &
. /init
`
  return { name: 'before-init', mode: modes.program, data: script }
}

function withDisk({ command }: Machine, disk: string): Machine {
  const drive = ['-drive', `if=virtio,format=raw,file=${disk},cache=unsafe`]
  return { command: (parts) => [...command(parts), ...drive] }
}
