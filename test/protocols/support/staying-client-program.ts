// A machine that keeps one connection: it mounts a path by NFS, and looks at its root again and again.
// Like a kernel, it asks again if the server tells it to wait.
//
//     node staying-client-program.ts SERVER LOCAL PATH

import { setTimeout as sleep } from 'node:timers/promises'
import { status as nfsStatus } from '../../../src/protocols/nfs/protocol.ts'
import { connectNfs } from './nfs-client.ts'

const [server = '', local = '', path = ''] = process.argv.slice(2)
const client = await connectNfs(2049, local, server)
const { status, handle } = await client.mount(path)
process.stdout.write(`mounted with status ${status}\n`)
while (status === 0) {
  const answer = await client.ask('GETATTR', [handle])
  if (answer.status === 0) process.stdout.write('called\n')
  else if (answer.status !== nfsStatus.NFS3ERR_JUKEBOX) break
  await sleep(250)
}
client[Symbol.dispose]()
