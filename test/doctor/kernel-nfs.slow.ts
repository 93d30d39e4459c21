// What the doctor says of a machine whose kernel serves NFS, and whose rpcbind tells so. The machine is User
// Mode Linux with the files of this one: a kernel has only one NFS server. This kernel has no IPv6.

import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { startProgram } from '../e2e/support/program.ts'
import { userModeLinuxCommand } from '../e2e/support/user-mode-linux.ts'
import { modulesInOrder } from '../protocols/support/linux-client.ts'
import { cli } from '../support/netimage.ts'
import { findProgram } from '../support/packages.ts'
import { temporaryDirectory } from '../support/temporary.ts'
import { findingsIn, type Finding } from './support/findings.ts'

test('the doctor knows the NFS server of the kernel, rpcbind, and a kernel without IPv6', async () => {
  const directory = temporaryDirectory()
  const doctor = `${process.execPath} ${cli} doctor --interface lan --dhcp proxy --state /run/state --json`
  const modules = modulesInOrder(['nfsd', 'dummy'])
  const init = join(directory, 'init')
  const script = `#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/run TMPDIR=/run
stty -echo
mount -t proc proc /proc
# Not on /tmp, where the sources may be.
for directory in /run /var/lib; do mount -t tmpfs tmpfs $directory; done
mkdir -p /var/lib/nfs/v4recovery /run/rpcbind
${modules.map((file) => `insmod ${file}`).join('\n')}
ip link set lo up
ip link add lan type dummy
ip address add 10.66.0.1/24 dev lan
ip link set lan up
${findProgram('rpcbind')} -w
mount -t nfsd nfsd /proc/fs/nfsd
echo 2 >/proc/fs/nfsd/threads
${findProgram('rpcinfo')} -p 127.0.0.1
echo begin; ${doctor}; echo end
# As nfs-server.service does when it is stopped.
echo 0 >/proc/fs/nfsd/threads
kill $(pidof rpcbind)
while pidof rpcbind >/dev/null; do :; done
echo begin; ${doctor}; echo end
${findProgram('busybox')} poweroff -f
`
  writeFileSync(init, script, { mode: 0o755 })
  mkdirSync(join(directory, 'uml'))
  const machine = startProgram({
    name: 'machine',
    command: userModeLinuxCommand({
      ...{ directory: join(directory, 'uml'), memory: '512M', init },
      line: [],
    }),
    log: join(directory, 'log'),
    others: () => [],
    hopeless: /Kernel panic/,
  })
  try {
    await machine.waitForEnd()
  } finally {
    await machine.kill()
  }

  const said = machine.lines().map(({ text }) => text)
  assert.ok(
    said.some((line) => /^ *100003 +3 +tcp +2049 +nfs$/.test(line)),
    machine.tail(60),
  )
  const [first, second] = said.join('\n').split('begin\n').slice(1).map(findingsOf)
  const [before, after] = [takenPorts(first), takenPorts(second)]
  const kernel = 'is taken by the NFS server of the kernel'
  const ofKernel = 'systemctl stop nfs-server.service'
  assert.deepEqual(before, [
    [`the port TCP 2049 (NFS) ${kernel}`, ofKernel],
    [`the port UDP 2049 (MOUNT) ${kernel}`, ofKernel],
    ['the port TCP 111 (the port mapper) is taken by rpcbind (process N)', 'kill N'],
    ['the port UDP 111 (the port mapper) is taken by rpcbind (process N)', 'kill N'],
  ])
  assert.deepEqual(after, [])
  const noIpv6 = (second ?? []).filter(({ message }) => message.includes('IPv6'))
  assert.deepEqual(
    noIpv6.map(({ code, message }) => [code, message]),
    [
      ['port-unusable', 'DHCP cannot keep to the interface lan: the kernel has no IPv6'],
      ['port-unusable', 'DHCP cannot keep to the interface lan: the kernel has no IPv6'],
      [
        'dhcp-unknown',
        'cannot tell which DHCP servers answer on lan: The search for other DHCP servers cannot keep to the interface lan: the kernel has no IPv6',
      ],
    ],
  )
  for (const { hint } of noIpv6) assert.match(hint ?? '', /^Use a Linux kernel with IPv6/)
})

function findingsOf(said: string): Finding[] {
  const [json = ''] = said.split('\nend')
  return findingsIn(json)
}

/** Of each port that is taken: the message, and the command that mends it. */
function takenPorts(findings: readonly Finding[] = []): string[][] {
  const plain = (text: string) => text.replaceAll(/(process |kill )\d+/g, '$1N')
  return findings
    .filter(({ code }) => code === 'port-taken')
    .map(({ message, fix }) => [plain(message), plain(fix ?? '')])
}
