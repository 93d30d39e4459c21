// What machines do with a root of ours all day, while its server is killed again and again.

import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { startHostedClient } from '../serve/support/hosted-client.ts'
import { openNetwork } from './support/network.ts'

const seconds = 500
/** A client takes seconds to come back. */
const betweenKillsMs = 8000
const support = join(import.meta.dirname, '../serve/support')
const path = '/srv/pi'

suite('Linux does not notice that its server is killed', () => {
  test('while anything at all is done', () =>
    work({
      image(tree) {
        mkdirSync(join(tree, 'image/sub'), { recursive: true })
        writeFileSync(join(tree, 'image/f'), 'hello\n')
      },
      script: randomOperations(seedOf('SEED', 1), seedOf('STEPS', 20_000)),
    }))
})

const seedOf = (name: string, other: number) => Number(process.env[name] ?? other)

/** In a directory of its own file system, and in one over NFS. */
function randomOperations(seed: number, steps: number): string {
  const perl = `perl ${join(support, 'random-operations.pl')}`
  return `
cp -a there/image image
mkdir here && mv image here
time ${perl} here ${seed} ${steps} >expected || exit 1
echo working
time ${perl} there ${seed} ${steps} >actual || exit 2
cmp expected actual && exit 0
diff -U 30 expected actual | head -90
exit 3`
}

/** Runs a script on a layer over an image, and kills its server again and again. */
async function work({
  image,
  script,
}: {
  image: (tree: string) => void
  script: string
}): Promise<void> {
  await using network = await openNetwork('serve-work')
  const [layer, tree] = [join(network.directory, 'layer'), join(network.directory, 'tree')]
  for (const directory of [layer, tree]) mkdirSync(directory)
  image(tree)
  const ports = JSON.stringify({ nfs: 2050 })
  const start = async () => {
    const program = join(support, 'nfs-server-program.ts')
    const command = [process.execPath, program, network.server, ports, path, layer, tree]
    const started = network.start('nfs-layer', command)
    await started.waitFor(/^ready$/, 30)
    return started
  }
  let server = await start()
  const machine = await startHostedClient(network, {
    ...{ name: 'machine', host: 103, path, options: ',port=2050,mountport=2050' },
    script,
  })
  const passed = machine.waitFor(/^passed$/, seconds)
  await machine.waitFor(/^working$/, seconds)
  let kills = 0
  for (let isDone = false; !isDone; kills++) {
    isDone = await Promise.race([passed.then(() => true), sleep(betweenKillsMs, false)])
    await server.kill()
    server = await start()
  }
  assert.ok(kills > 3, String(kills))
}
