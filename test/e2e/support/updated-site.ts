// A site with one image for each kind of generation. It gives each new machine the first of them.

import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as v from 'valibot'
import type { DemoSystemName } from '../../../demo/system/build.ts'
import type { DemoImage } from './demo-image.ts'
import type { Firmware } from './firmware.ts'
import { buildGeneration, type Kind } from './generations.ts'
import { openNetwork, type Network } from './network.ts'
import { startOwnServer, type OwnServer, type OwnServerSettings } from './own-server.ts'

const statusSchema = v.object({
  machines: v.array(
    v.object({
      machine: v.string(),
      generations: v.array(
        v.object({
          number: v.number(),
          toplevel: v.string(),
          verdict: v.picklist(['trial', 'good', 'bad']),
          reason: v.optional(v.string()),
          failures: v.number(),
        }),
      ),
      attempts: v.array(v.object({ generation: v.number(), trouble: v.optional(v.string()) })),
    }),
  ),
})
type Status = v.InferOutput<typeof statusSchema>['machines'][number]

export type UpdatedSite = {
  network: Network
  server: OwnServer
  imageOf: (kind: Kind) => DemoImage
  /** Lets a machine boot the image next. */
  assign: (machine: string, kind: Kind) => Promise<void>
  statusOf: (machine: string) => Promise<Status>
  /** The machine's newest generation with the system. */
  generationOf: (machine: string, toplevel: string) => Promise<Status['generations'][number]>
  [Symbol.asyncDispose]: () => Promise<void>
}

/**
 * @param name of the folder for logs
 * @param others the systems of further images: each machine gets the image for its processor
 */
export async function openUpdatedSite(
  name: string,
  system: DemoSystemName,
  updates: readonly Kind[],
  firmware: Firmware,
  { others = [], ...settings }: { others?: readonly DemoSystemName[] } & OwnServerSettings = {},
): Promise<UpdatedSite> {
  await using cleanup = new AsyncDisposableStack()
  const directory = mkdtempSync(join(tmpdir(), 'netimage-update-'))
  cleanup.defer(() => rmSync(directory, { recursive: true, force: true }))
  // The user of the server adds images from there.
  chmodSync(directory, 0o755)
  const images = new Map<Kind, DemoImage>()
  for (const kind of ['first', ...updates] as const) {
    images.set(kind, await buildGeneration(kind, system, directory, firmware))
  }
  const imageOf = (kind: Kind) => {
    const image = images.get(kind)
    assert.ok(image)
    return image
  }
  const network = cleanup.use(await openNetwork(name))
  const served = [imageOf('first').image]
  for (const other of others) {
    served.push((await buildGeneration('first', other, directory, firmware)).image)
  }
  const server = await startOwnServer(network, served, 'full', settings)
  for (const kind of updates) await server.site('add', imageOf(kind).image)

  async function statusOf(machine: string): Promise<Status> {
    const { machines } = v.parse(statusSchema, await server.site('status', machine))
    const status = machines.find((each) => each.machine === machine)
    assert.ok(status)
    return status
  }

  const open = cleanup.move()
  return {
    network,
    server,
    imageOf,
    async assign(machine, kind) {
      await server.site('assign', machine, imageOf(kind).manifest.options.rootDirectoryName)
    },
    statusOf,
    async generationOf(machine, toplevel) {
      const status = await statusOf(machine)
      const found = status.generations.findLast((each) => each.toplevel === toplevel)
      assert.ok(found, JSON.stringify(status))
      return found
    },
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}
