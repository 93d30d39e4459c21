// A Raspberry Pi. No emulator runs the real loader, so only the loader is simulated (see pi/).

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import * as v from 'valibot'
import { buildBootableSystem, buildDemoImage, small, type DemoImage } from './demo-image.ts'
import { fetchFirmware } from './firmware.ts'
import { openNetwork, type Host, type Network } from './network.ts'
import type { Board, ModelName } from './pi/models.ts'
import { startLoaderServers, type DhcpServer } from './servers.ts'

const fileSchema = v.object({ path: v.string(), bytes: v.number(), sha256: v.string() })
const reportSchema = v.object({
  address: v.string(),
  server: v.string(),
  prefix: v.string(),
  firmware: v.array(fileSchema),
  deviceTree: v.optional(fileSchema),
  overlays: v.array(fileSchema),
  kernel: v.optional(fileSchema),
  initrd: v.array(fileSchema),
  kernelLine: v.optional(v.string()),
  isArm64: v.boolean(),
  problems: v.array(v.string()),
})

/** The files that a loader has fetched to start the kernel. */
export type PiReport = v.InferOutput<typeof reportSchema>

/** A board of each model. */
export const boards: Record<ModelName, Board> = {
  pi3: { mac: 'b8:27:eb:28:f6:6d', serial: '3728f66d', revision: 'a02082' },
  pi4: { mac: 'dc:a6:32:01:36:c2', serial: '9ffefdef', revision: 'c03111' },
  pi5: { mac: 'd8:3a:dd:e4:c9:f0', serial: 'bd989ae1', revision: 'd04170' },
}

const deviceTrees: Record<ModelName, readonly string[]> = {
  pi3: ['bcm2710-rpi-3-b.dtb', 'bcm2837-rpi-3-b.dtb'],
  pi4: ['bcm2711-rpi-4-b.dtb'],
  pi5: ['bcm2712-rpi-5-b.dtb'],
}

/**
 * @param image the path of the image
 * @param boots whether the kernel and the initrd are whole; the simulated loader does not start them
 * @param commands shell commands that add files to the boot tree
 */
export async function buildPiImage(
  image: string,
  {
    boots = false,
    firmware,
    commands = '',
  }: { boots?: boolean; firmware?: string; commands?: string } = {},
): Promise<DemoImage> {
  const { raspberryPi } = await fetchFirmware()
  const demo = await buildBootableSystem('aarch64-linux', boots ? {} : small)
  return await buildDemoImage(demo, image, {
    boot: ['raspberry-pi'],
    bootSettings: { firmware: firmware ?? raspberryPi },
    // The kernel of Debian 12 is older than the Pi 5, and has no device tree for it.
    options: { populateFirmwareCommands: `echo stand-in > bcm2712-rpi-5-b.dtb; ${commands}` },
  })
}

/** Switches a board on, in its own network with servers for the image. */
export async function bootPi(
  name: ModelName,
  image: string,
  dhcp: DhcpServer = 'dnsmasq',
): Promise<PiReport> {
  await using network = await openNetwork(`${name}-${dhcp}`)
  await startLoaderServers(network, image, { dhcp })
  return await powerOnPi(network, name)
}

/** Switches a board on, and waits until it would start the kernel. */
export async function powerOnPi(network: Network, name: ModelName): Promise<PiReport> {
  return await loadPi(await network.addHost(boards[name].mac), name)
}

/** @param host the board, as `network.addHost` made it */
export async function loadPi(host: Host, name: ModelName): Promise<PiReport> {
  const { mac, serial, revision } = boards[name]
  const program = fileURLToPath(import.meta.resolve('./pi/main.ts'))
  const loader = host.start(name, [process.execPath, program, name, mac, serial, revision])
  const { text } = await loader.waitFor(/^report /)
  await loader.waitForEnd()
  return v.parse(reportSchema, JSON.parse(text.slice('report '.length)))
}

/** The loader must have all files of the image's system. */
export function assertStartsSystem(
  name: ModelName,
  report: PiReport,
  { demo, manifest }: Pick<DemoImage, 'demo' | 'manifest'>,
): void {
  const [entry] = manifest.system.entries
  assert.ok(entry?.initrd !== undefined)
  assert.deepEqual(report.problems, [])
  assert.equal(report.server, '10.66.0.1')
  assert.equal(report.kernel?.sha256, sha256(demo.world.realPath(entry.kernel)))
  const initrds = report.initrd.map((file) => file.sha256)
  assert.deepEqual(initrds, [sha256(demo.world.realPath(entry.initrd))])
  assert.equal(report.kernelLine, [`init=${entry.init}`, ...entry.kernelParams].join(' '))
  assert.ok(report.isArm64)
  const deviceTree = report.deviceTree?.path.slice(report.prefix.length)
  assert.ok(deviceTrees[name].includes(deviceTree ?? ''), deviceTree)
}

/** In hex. */
export function sha256(file: string): string {
  return createHash('sha256').update(readFileSync(file)).digest('hex')
}
