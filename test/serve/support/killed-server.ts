// Kills the NFS server of a layer again and again while a machine works on the layer.

import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { PoweredMachine } from '../../e2e/support/machines.ts'
import type { Network } from '../../e2e/support/network.ts'

const program = join(import.meta.dirname, '../../protocols/support/nfs-server-program.ts')
const path = '/srv/pi'

/** More kills would show nothing new, and take long. */
const maxKills = 5

export type WorkThroughKills = {
  /** Fills the image below. */
  image?: ((tree: string) => void) | undefined
  /** The machine: it mounts the path with the options, and prints `passed` at its end. */
  startMachine: (mount: { path: string; options: string }) => Promise<PoweredMachine>
  /** The line that the machine prints when the first kill may come. */
  begins: RegExp
  /**
   * After how many operations each server is killed, a multiple of 50. So the machine gets on, however
   * busy this computer is.
   */
  operationsBetweenKills: number
}

/** @returns how often the server was killed, and the layer that it served */
export async function workThroughKills(
  network: Network,
  { image, startMachine, begins, operationsBetweenKills }: WorkThroughKills,
): Promise<{ kills: number; layer: string; tree: string }> {
  const [layer, tree] = [join(network.directory, 'layer'), join(network.directory, 'tree')]
  for (const directory of [layer, tree]) mkdirSync(directory)
  image?.(tree)
  const ports = JSON.stringify({ nfs: 2050 })
  const start = async () => {
    const command = [process.execPath, program, network.server, ports, path, layer, tree]
    const started = network.start('nfs-layer', command)
    await started.waitFor(/^ready$/)
    return started
  }
  let server = await start()
  const machine = await startMachine({ path, options: ',port=2050,mountport=2050' })
  const passed = machine.waitFor(/^passed$/)
  await machine.waitFor(begins)
  let kills = 0
  for (; kills < maxKills; kills++) {
    const works = server.waitFor(new RegExp(`^${operationsBetweenKills} operations$`)).then(
      () => false,
      () => true,
    )
    if (await Promise.race([passed.then(() => true), works])) break
    await server.kill()
    server = await start()
  }
  await passed
  await server.kill()
  return { kills, layer, tree }
}
