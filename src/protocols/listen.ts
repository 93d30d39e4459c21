/** Why a server cannot listen, in the words of a person. */
import { errnoOf, messageOf, NetimageError } from '../errors.ts'

const hints: Record<string, string> = {
  EADDRINUSE: 'Another program has that port: end it, or choose another address or port.',
  EACCES: 'Ports below 1024 take root or CAP_NET_BIND_SERVICE; or choose a higher one.',
  EADDRNOTAVAIL: 'This machine has no such address: `ip address` shows those that it has.',
}

/** Who has a port most likely, where we may go without it or elsewhere. */
const holders: Record<number, string> = {
  67: 'Another DHCP server of this machine has it, dnsmasq perhaps: end it, or serve with --dhcp off.',
  69: 'Another TFTP server of this machine has it: end it, or take --tftp-port.',
  80: 'A web server of this machine has it: end it, or take --http-port.',
  111: 'rpcbind has it most likely: end it (systemctl stop rpcbind.socket rpcbind), or leave ours out with --no-port-mapper, where mounts name their ports.',
  2049: 'The kernel’s NFS server has it most likely: end it, or take --nfs-port, where mounts name their ports.',
}

/** @param what the server and its transport: `NFS (TCP)` */
export function listenError(
  what: string,
  { address, port }: { address: string; port: number },
  cause: unknown,
): NetimageError {
  const errno = errnoOf(cause) ?? ''
  const hint = (errno === 'EADDRINUSE' ? holders[port] : undefined) ?? hints[errno]
  return new NetimageError(
    'cannot-listen',
    `${what} cannot listen on ${address}, port ${port}: ${messageOf(cause)}`,
    { cause, ...(hint !== undefined && { hint }) },
  )
}
