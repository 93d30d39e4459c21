// Prints the answers of a TFTP server whose process has no file descriptor left, then one, then
// enough.
//
//     node tftp-without-descriptors-program.ts TREE
//
// TREE has a file named kernel.

import { closeSync, openSync } from 'node:fs'
import { openPeer, readRequest } from './tftp-peer.ts'
import { serveTftp } from './tftp-server.ts'

await using server = await serveTftp(process.argv[2] ?? '')
await using peer = await openPeer()
// After this, Node has opened everything that it opens only once.
peer.send(readRequest('none'), server.port)
await peer.next()

const taken: number[] = []
const take = () => {
  try {
    for (;;) taken.push(openSync('/dev/null', 'r'))
  } catch {
    // No descriptor is left.
  }
}
take()

/** An event shows that the server has given up on the request. */
async function ask(): Promise<void> {
  const { length } = server.events
  peer.send(readRequest('kernel'), server.port)
  let heard = await peer.next(100)
  while (heard === undefined && server.events.length === length) heard = await peer.next(100)
  process.stdout.write(`${heard?.packet.kind ?? 'silence'}\n`)
}

await ask()
// One descriptor: enough for the file, but not for the socket of the transfer.
closeSync(taken.pop() ?? -1)
await ask()
for (const descriptor of taken) closeSync(descriptor)
await ask()
