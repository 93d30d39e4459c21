// Common servers inside a test's network, with the configuration that a test gives as text. Each
// server is ready when its function returns. The servers end with the network.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { findProgram } from '../../support/packages.ts'
import { waitUntil } from '../../support/waiting.ts'
import type { Host, Network } from './network.ts'
import type { Program } from './program.ts'

/** @param configuration the text of dnsmasq.conf */
export async function startDnsmasq(host: Host, configuration: string): Promise<Program> {
  const file = writeConfiguration(host, 'dnsmasq.conf', configuration)
  const server = host.start('dnsmasq', [
    findProgram('dnsmasq'),
    '--keep-in-foreground',
    // The user of dnsmasq may not be able to read the boot trees.
    '--user=root',
    '--log-facility=-',
    '--pid-file',
    `--conf-file=${file}`,
  ])
  if (/^\s*dhcp-range=\d+\./m.test(configuration)) await listening(host, server, 'udp', 67)
  if (/^\s*enable-tftp\b/m.test(configuration)) await listening(host, server, 'udp', 69)
  return server
}

/** @param configuration the text of kea-dhcp4.conf */
export async function startKea(host: Host, configuration: string): Promise<Program> {
  const file = writeConfiguration(host, 'kea-dhcp4.conf', configuration)
  const server = host.start('kea', [findProgram('kea-dhcp4'), '-c', file])
  await server.waitFor(/DHCP4_STARTED/)
  return server
}

/** @param defaults the text of /etc/default/tftpd-hpa */
export async function startTftpdHpa(host: Host, defaults: string): Promise<Program> {
  const file = writeConfiguration(host, 'tftpd-hpa', defaults)
  const programs = [findProgram('in.tftpd'), findProgram('busybox')]
  const server = host.start('tftpd-hpa', ['sh', '-euc', startTftpd, 'sh', file, ...programs])
  await listening(host, server, 'udp', 69)
  return server
}

// Debian's init script, but in the foreground, and with its log on the output.
const startTftpd = `
. "$1"
mount -t tmpfs tmpfs /dev
mknod -m 666 /dev/null c 1 3
"$3" syslogd -n -O /proc/1/fd/1 &
until [ -S /dev/log ]; do sleep 0.05; done
exec "$2" --foreground --verbose --user "$TFTP_USERNAME" --address "$TFTP_ADDRESS" \\
  $TFTP_OPTIONS $TFTP_DIRECTORY
`

/** rpcbind for all addresses. */
export async function startRpcbind(host: Host): Promise<Program> {
  const server = host.start('rpcbind', [findProgram('rpcbind'), '-f'])
  await listening(host, server, 'tcp', 111)
  return server
}

/** nfs-ganesha, and the rpcbind that it needs. @param configuration the text of ganesha.conf */
export async function startGanesha(host: Host, configuration: string): Promise<Program> {
  await startRpcbind(host)
  const file = writeConfiguration(host, 'ganesha.conf', configuration)
  const log = ['-L', 'STDOUT', '-N', 'NIV_EVENT']
  const files = ['-f', file, '-p', '/run/ganesha.pid']
  const server = host.start('ganesha', [findProgram('ganesha.nfsd'), '-F', ...log, ...files])
  await server.waitFor(/NFS SERVER INITIALIZED/)
  return server
}

/** Static files over HTTP. @param directory the path in the network's namespace */
export async function startHttpServer(network: Network, directory: string): Promise<Program> {
  const busybox = findProgram('busybox')
  const address = `${network.server}:80`
  const command = [busybox, 'httpd', '-f', '-v', '-p', address, '-h', directory]
  const server = network.start('httpd', command)
  await listening(network, server, 'tcp', 80)
  return server
}

function writeConfiguration({ directory }: Host, name: string, text: string): string {
  const file = join(directory, name)
  writeFileSync(file, text)
  return file
}

async function listening(
  host: Host,
  server: Program,
  protocol: 'tcp' | 'udp',
  port: number,
): Promise<void> {
  await waitUntil(`${server.name} listens at ${protocol} port ${port}`, () => {
    if (!server.isRunning()) throw new Error(server.tail(40))
    return host.listens(protocol, port)
  })
}
