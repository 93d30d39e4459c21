// The ways in which machines boot an image from power-on, with common servers and the configuration
// that netimage writes for them.

import assert from 'node:assert/strict'
import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { TestContext } from 'node:test'
import type { DemoSystemName } from '../../../demo/system/build.ts'
import type { BuildRequest } from '../../../src/index.ts'
import { routerAdvertisements } from './configuration.ts'
import { buildBootableSystem, buildDemoImage, rootDevice, small } from './demo-image.ts'
import { fetchFirmware, type Firmware } from './firmware.ts'
import {
  arm64Uboot,
  arm64Uefi,
  powerOnUntil,
  x86Bios,
  x86BiosPxe,
  x86Uefi,
  type Machine,
} from './machines.ts'
import { openNetwork } from './network.ts'
import { assertBoot, startOwnServer } from './own-server.ts'
import { startLoaderServers, startRootServer, type ServerOptions } from './servers.ts'

export type BootWay = {
  name: string
  system: DemoSystemName
  machine: (firmware: Firmware) => Machine
  boot: NonNullable<BuildRequest['boot']>
  servers?: ServerOptions
  /** The loader of iPXE in the boot tree; there is only one. */
  ipxeLoader?: string
  /** Signs the files that UEFI starts. */
  signing?: Pick<BootSettings, 'signKey' | 'signCertificate'>
  /** How many processes of our own server serve the machines. */
  workers?: number
  /** Shell commands that add to the boot tree. */
  populate?: (firmware: Firmware) => string
  /** The key to press in the menu, instead of waiting for the default. */
  chooses?: { menu: RegExp; key: string; specialisation?: string }
  /**
   * The test ends when UEFI starts the file that it has fetched, when the loader fetches the kernel,
   * when the loader has the whole kernel, or when the kernel runs: after that, the boot is the same
   * as in other ways. Default: when the system is up.
   */
  until?: 'start' | 'fetch' | 'whole-kernel' | 'kernel'
  /** The console must show these in this order; they prove that the right loader was used. */
  shows: readonly RegExp[]
}

type BootSettings = NonNullable<BuildRequest['bootSettings']>

const [x86, arm64] = ['x86_64-linux', 'aarch64-linux'] as const

const ipxeMenu = { menu: /NixOS over the network/, key: '\r' }

/** The firmware fetches a loader of iPXE, and the loader fetches the script. */
function byIpxeLoader(
  name: string,
  way: Pick<BootWay, 'system' | 'machine'> & { ipxeLoader: string },
): BootWay {
  return {
    ...way,
    name,
    boot: ['ipxe'],
    servers: { dnsmasq: routerAdvertisements },
    chooses: ipxeMenu,
    until: 'fetch',
    shows: [
      new RegExp(way.ipxeLoader.replace('.', '\\.')),
      // Its own banner. UEFI may throw away what iPXE prints before it.
      /Open Source Network Boot Firmware/,
      /tftp:\/\/.*boot\.ipxe.* ok/,
    ],
  }
}

/**
 * Ways for other programs' servers; `fastOwnWays` are also fast, and use our own server. These ways
 * boot until the system is up: one for each kind of boot files.
 */
export const fastWays: readonly BootWay[] = [
  {
    name: 'bios-ipxe-tftp',
    system: x86,
    machine: x86Bios,
    boot: ['ipxe'],
    servers: { dnsmasq: routerAdvertisements },
    chooses: ipxeMenu,
    shows: [/tftp:\/\/.*boot\.ipxe.* ok/],
  },
]

export const fastOwnWays: readonly BootWay[] = [
  {
    name: 'uboot-extlinux',
    system: arm64,
    machine: arm64Uboot,
    boot: ['extlinux'],
    chooses: { menu: /Enter choice:/, key: '1\r' },
    shows: [/Retrieving file: pxelinux\.cfg\/default$/],
  },
  {
    name: 'ovmf-pxe-uki',
    system: x86,
    machine: (firmware) => x86Uefi(firmware, 'pxe'),
    boot: ['uefi'],
    workers: 2,
    shows: [/Start PXE over IPv4/],
  },
]

/** These differ only in how the kernel is loaded. */
export const otherWays: readonly BootWay[] = [
  {
    name: 'bios-ipxe-http',
    system: x86,
    machine: x86Bios,
    boot: ['ipxe'],
    servers: { http: 'root', dnsmasq: routerAdvertisements },
    until: 'whole-kernel',
    shows: [/http:\/\/.*boot\.ipxe.* ok/],
  },
  {
    name: 'bios-pxelinux.0',
    system: x86,
    machine: x86Bios,
    boot: ['extlinux'],
    servers: { tftpdHpa: true, dnsmasq: routerAdvertisements },
    populate: ({ pxelinux }) => `cp ${pxelinux['pxelinux.0']} ${pxelinux.module} .`,
    until: 'kernel',
    chooses: { menu: /^boot:/, key: 'nixos-1-debug\r', specialisation: 'debug' },
    shows: [
      ...[/^pxelinux\.0 : /, /PXELINUX/, /^Type a label/, /^ *nixos-1-debug$/],
      /Command line: .* loglevel=7/,
    ],
  },
  {
    // It gives up after a second without an answer, so it gets the server that answers soonest.
    name: 'bios-lpxelinux.0',
    system: x86,
    machine: x86Bios,
    boot: ['extlinux'],
    servers: { dnsmasq: routerAdvertisements },
    populate: ({ pxelinux }) => `cp ${pxelinux['lpxelinux.0']} ${pxelinux.module} .`,
    until: 'fetch',
    shows: [/^lpxelinux\.0 : /, /PXELINUX/],
  },
  {
    name: 'ovmf-http-uki',
    system: x86,
    machine: (firmware) => x86Uefi(firmware, 'http'),
    boot: ['uefi'],
    servers: { http: 'root' },
    until: 'start',
    shows: [/Start HTTP Boot over IPv4/],
  },
  {
    name: 'aarch64-edk2-pxe-uki',
    system: arm64,
    machine: (firmware) => arm64Uefi(firmware, 'pxe'),
    boot: ['uefi'],
    until: 'start',
    shows: [/Start PXE over IPv4/],
  },
  {
    name: 'bios-ipxe-proxy-dhcp',
    system: x86,
    machine: x86Bios,
    boot: ['ipxe'],
    servers: { dhcp: 'proxy' },
    until: 'fetch',
    shows: [/tftp:\/\/.*boot\.ipxe.* ok/],
  },
  {
    name: 'ovmf-pxe-uki-proxy-dhcp',
    system: x86,
    machine: (firmware) => x86Uefi(firmware, 'pxe'),
    boot: ['uefi'],
    servers: { dhcp: 'proxy' },
    until: 'start',
    shows: [/Start PXE over IPv4/],
  },
  {
    name: 'ovmf-http-uki-kea',
    system: x86,
    machine: (firmware) => x86Uefi(firmware, 'http'),
    boot: ['uefi'],
    servers: { dhcp: 'kea', http: 'folder' },
    until: 'start',
    shows: [/Start HTTP Boot over IPv4/],
  },
  ...['undionly.kpxe', 'ipxe.pxe'].map((ipxeLoader) =>
    byIpxeLoader(`bios-${ipxeLoader}`, { system: x86, machine: x86BiosPxe, ipxeLoader }),
  ),
  ...['snponly.efi', 'ipxe.efi'].map((ipxeLoader) =>
    byIpxeLoader(`ovmf-${ipxeLoader}`, {
      system: x86,
      machine: (firmware) => x86Uefi(firmware, 'pxe'),
      ipxeLoader,
    }),
  ),
]

const ends = {
  // The second is the message of the unified kernel image, whose kernel is cut off here. When it
  // starts, it may throw away what UEFI has just printed.
  start: {
    last: /BdsDxe: starting Boot|Error loading kernel image/,
    what: 'UEFI starts what it has fetched',
  },
  // The console may begin another line within a name, but not within the first words of PXELINUX.
  fetch: { last: /nixos\/\S*Image|Loading nixos/, what: 'the loader fetches the kernel' },
  // iPXE fetches the initrd after the kernel.
  'whole-kernel': { last: /nixos\/\w{32}-initrd/, what: 'the loader has the kernel' },
  // The first that a kernel prints: as a unified kernel image, with much output, or with little.
  kernel: {
    last: /EFI stub: Loaded initrd|Command line: |netimage-demo: stage 1/,
    what: 'its kernel runs',
  },
  up: { last: /netimage-demo: up/, what: 'up' },
} as const

/**
 * Builds an image, starts servers, and boots a machine until it is up.
 *
 * @param own uses our own server in this DHCP mode, instead of other servers
 */
export async function bootBy(
  way: BootWay,
  context: TestContext,
  own?: 'full' | 'proxy',
): Promise<void> {
  const firmware = await fetchFirmware()
  const demo = await buildBootableSystem(way.system, way.until === 'start' ? small : {})
  await using cleanup = new AsyncDisposableStack()
  const directory = mkdtempSync(join(tmpdir(), `netimage-boot-${way.name}-`))
  cleanup.defer(() => rmSync(directory, { recursive: true, force: true }))
  const { image, manifest } = await buildDemoImage(demo, join(directory, 'image'), {
    boot: way.boot,
    bootSettings: {
      ipxe: ipxeDirectory(way, firmware, directory),
      uefiStub: firmware.stubs[way.system],
      ...way.signing,
    },
    options: { populateFirmwareCommands: way.populate?.(firmware) ?? '' },
  })

  const network = cleanup.use(await openNetwork(own ? `${way.name}-own-${own}` : way.name))
  const server = own && (await startOwnServer(network, [image], own, way))
  if (!server) {
    await startLoaderServers(network, image, way.servers)
    await startRootServer(network, image)
  }
  // Debian's U-Boot for QEMU always uses this hardware address.
  const mac = way.machine === arm64Uboot ? '52:52:52:52:52:52' : '52:54:00:00:00:01'
  const entry = manifest.system.entries.find(
    ({ specialisation }) => specialisation === way.chooses?.specialisation,
  )
  assert.ok(entry)
  const { last, what } = ends[way.until ?? 'up']
  const also =
    way.until === undefined
      ? [
          'netimage-demo: registered',
          `netimage-demo: system ${dirname(entry.init)}`,
          `netimage-demo: mount ${rootDevice} / nfs rw,`,
        ]
      : []
  const request = { name: 'machine', mac, machine: way.machine(firmware) }
  const { machine, reached, tries } = await powerOnUntil(network, request, async (powered) => {
    if (way.chooses) {
      await powered.waitFor(way.chooses.menu)
      powered.type(way.chooses.key)
    }
    return await powered.waitFor(last)
  })
  // The kernel may print the last of these after its first line.
  const lastShown = way.shows.at(-1)
  if (!server && lastShown) await machine.waitFor(lastShown)
  const said = machine.lines().map(({ text }) => text)
  let shown = -1
  // Our own server offers each machine the fastest way, which may be another one.
  for (const pattern of server ? [] : way.shows) {
    shown = said.findIndex((line, index) => index > shown && pattern.test(line))
    assert.ok(shown >= 0, `${pattern} is missing or not in order in:\n${machine.tail(Infinity)}`)
  }
  for (const text of also) {
    assert.ok(
      said.some((line) => line.includes(text)),
      `"${text}" is not in:\n${machine.tail(Infinity)}`,
    )
  }
  if (server) {
    // U-Boot, the only loader that a test stops so early, fetches the initrd before the kernel.
    const loading = ['dhcp', ...(way.boot.includes('uefi') ? [] : ['loader']), 'kernel', 'initrd']
    if (way.until === undefined) await server.program.waitFor(/"step":"registered"/)
    if (way.until === 'fetch') await server.program.waitFor(/"step":"begin".*Image"/)
    // UEFI would boot again from the network if it cannot start the kernel.
    await machine.powerOff()
    const boots = await server.boots(mac)
    // A start that fails may print nothing. UEFI then boots by its next way, and that start is seen.
    const isRight = way.until === 'start' ? boots.length >= tries : boots.length === tries
    assert.ok(isRight, JSON.stringify(boots))
    const [whole] = boots.toSorted((a, b) => b.bytes - a.bytes)
    assertBoot(whole, loading, way.until === undefined)
    if (way.until === undefined || way.until === 'kernel') {
      assert.ok(whole && whole.bytes > 10_000_000, JSON.stringify(whole))
    }
  }
  context.diagnostic(`${way.name}: ${what} ${reached.seconds.toFixed(1)} seconds after power-on`)
  await machine.powerOff()
}

function ipxeDirectory({ ipxeLoader }: BootWay, { ipxe }: Firmware, directory: string): string {
  if (ipxeLoader === undefined) return ipxe
  const only = join(directory, 'ipxe')
  mkdirSync(only)
  copyFileSync(join(ipxe, ipxeLoader), join(only, ipxeLoader))
  return only
}
