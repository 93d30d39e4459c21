/**
 * The machine of bench/hostile-boots.ts that asks its server to publish systems, as fast as the server answers, until
 * the program is killed.
 *
 *     node bench/hostile-machine.ts SERVER PORT ADDRESS ROOT
 *
 * It prints how many requests it has made, each second.
 */
import { notesDirectory } from '../src/serve/boot-notes.ts'
import { requestName } from '../src/site/publish/request.ts'
import { connectNfs, wanted, wide } from '../test/protocols/support/nfs-client.ts'
import { inventPath } from '../test/support/synthetic.ts'

const [server = '', port, address = '', rootPath = ''] = process.argv.slice(2)
/** How many of its calls are under way at once: more than a connection takes. */
const calls = 512

const client = await connectNfs(Number(port), address, server)
const { status, handle: root } = await client.mount(rootPath)
if (status !== 0) throw new Error(`MOUNT failed with status ${status}`)
let folder = root
for (const name of [...notesDirectory, 'publish']) {
  await client.ask('MKDIR', [folder, name, wanted({ mode: 0o755 })])
  folder = await client.find(folder, name)
}
const toplevel = inventPath('nixos-system-gone')
const requestOf = (id: number) => JSON.stringify({ version: 1, id: String(id), toplevel })
await client.ask('CREATE', [folder, 'answer', 0, wanted({ mode: 0o600 })])
await client.done('CREATE', [folder, 'new', 0, wanted({ mode: 0o600 })])
const file = await client.find(folder, 'new')

let requests = 0
let under = 0
setInterval(() => process.stdout.write(`${requests}\n`), 1000)
while (!client.socket.destroyed) {
  const text = requestOf(++requests)
  under += 3
  for (const asked of [
    client.ask('WRITE', [file, wide(0), text.length, 0, text]),
    client.ask('RENAME', [folder, 'new', folder, requestName]),
    client.ask('RENAME', [folder, requestName, folder, 'new']),
  ]) {
    void asked.finally(() => under--)
  }
  while (under >= calls) await new Promise((resolve) => client.socket.once('data', resolve))
}
