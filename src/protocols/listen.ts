/** What listens on a port, and the error if it cannot, with a hint for the person. */
import { errnoOf, messageOf, NetimageError } from '../errors.ts'

export interface Listener {
  port: number
  close: () => Promise<void>
}

const hints: Record<string, string> = {
  EADDRINUSE: 'Another program has the port. Stop it, or choose another address or port.',
  EACCES: 'Run as root or with CAP_NET_BIND_SERVICE, or choose a port of 1024 or more.',
  EADDRNOTAVAIL: 'This machine does not have the address. Run `ip address` to see its addresses.',
}

/** The program that most likely has a port, if we can do without the port or use another one. */
const holders: Record<number, string> = {
  67: 'Another DHCP server of this machine has the port, perhaps dnsmasq. Stop it, or serve with --dhcp off.',
  69: 'Another TFTP server of this machine has the port. Stop it, or use --tftp-port.',
  80: 'A web server of this machine has the port. Stop it, or use --http-port.',
  111: 'Most likely rpcbind has the port. Stop it (systemctl stop rpcbind.socket rpcbind). If all mounts name their ports, you can use --no-port-mapper instead.',
  8080: 'Another program of this machine has the port. Choose another one with --page ADDRESS:PORT, or use --page off.',
  2049: 'Most likely the kernel’s NFS server has the port. Stop it. If all mounts name their ports, you can use --nfs-port instead.',
}

/** @param what the server and its transport, such as `NFS (TCP)` */
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
    {
      cause,
      details: { field: what, actual: `${address}:${port}` },
      ...(hint !== undefined && { hint }),
    },
  )
}
