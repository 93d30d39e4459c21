/** Why a server cannot listen, in the words of a person. */
import { errnoOf, messageOf, NetimageError } from '../errors.ts'

const hints: Record<string, string> = {
  EADDRINUSE: 'Another program has that port: end it, or choose another address or port.',
  EACCES: 'Ports below 1024 take root or CAP_NET_BIND_SERVICE; or choose a higher one.',
  EADDRNOTAVAIL: 'This machine has no such address: `ip address` shows those that it has.',
}

/** @param what the server and its transport: `NFS (TCP)` */
export function listenError(
  what: string,
  { address, port }: { address: string; port: number },
  cause: unknown,
): NetimageError {
  const hint = hints[errnoOf(cause) ?? '']
  return new NetimageError(
    'cannot-listen',
    `${what} cannot listen on ${address}, port ${port}: ${messageOf(cause)}`,
    { cause, ...(hint !== undefined && { hint }) },
  )
}
