// A machine that keeps one connection: it mounts a path by NFS, and looks at its root again and again.
//
//     node staying-client-program.ts SERVER LOCAL PATH

import { setTimeout as sleep } from 'node:timers/promises'
import { connectNfs } from './nfs-client.ts'

const [server = '', local = '', path = ''] = process.argv.slice(2)
const client = await connectNfs(2049, local, server)
const { status, handle } = await client.mount(path)
process.stdout.write(`mounted with status ${status}\n`)
while (status === 0) {
  await client.attributes(handle)
  process.stdout.write('called\n')
  await sleep(250)
}
client[Symbol.dispose]()
