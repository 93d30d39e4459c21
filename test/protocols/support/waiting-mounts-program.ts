// A server, and clients whose mounts all wait. Each call is large, and the process has less memory
// than all calls together: see test/support/limited-memory.ts. The program prints how often the
// server has tried to open the roots, and how many mounts it has refused by then.

import { once } from 'node:events'
import { connectNfs } from './nfs-client.ts'
import { callRecord } from './rpc-client.ts'
import { exportPath, startTestServer } from './test-server.ts'

const [clients, callsOfEach] = [4, 200]
const call = callRecord({}, 100005, 1, (writer) => {
  writer.string(exportPath)
  writer.fixed(Buffer.alloc(2 ** 20))
})

let looks = 0
const server = await startTestServer({ machineOf: () => (looks++, 'busy') })
for (let client = 0; client < clients; client++) {
  const { socket } = await connectNfs(server.port, `127.0.0.${2 + client}`)
  const before = looks
  for (let sent = 0; sent < callsOfEach; sent++) {
    if (!socket.write(call)) await once(socket, 'drain')
  }
  while (looks < before + callsOfEach) await new Promise((resolve) => setImmediate(resolve))
}
console.log(JSON.stringify({ calls: clients * callsOfEach, looks, refused: server.events.length }))
process.exit()
