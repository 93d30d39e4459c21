/** What the configuration of a server has to know of an image and of the network. */
import { createHash } from 'node:crypto'
import { isIPv4 } from 'node:net'

import { ipxeScript } from '../boot/ipxe.ts'
import { NetimageError } from '../errors.ts'
import { imageLayout } from '../image/layout.ts'
import type { ReadImage } from '../image/manifest.ts'
import { parseNfsRoot, type NfsRoot } from '../nixos/nfs-root.ts'

export interface ServerSettings {
  /** The server's address. Default: that of nfsRoot. */
  address?: string | undefined
  /** The server's network interface. */
  interface?: string | undefined
  /** The network, as in `10.0.0.0/24`. */
  network?: string | undefined
  /** Addresses to hand out, as in `10.0.0.100-10.0.0.199`; without, DHCP is left to another. */
  range?: string | undefined
  /** Where the boot tree is served over HTTP; true: at the server's address. */
  http?: string | true | undefined
}

export interface ServerPlan {
  /** The image, for comments. */
  image: string
  bootTree: string
  rootTree: string
  nfsRoot: NfsRoot
  address: string
  interface: string | undefined
  network: Network
  range: { first: string; last: string } | undefined
  loaders: Loaders
}

export interface Network {
  address: string
  prefix: number
  netmask: string
}

/** What each kind of firmware is given; undefined where there is nothing for it. */
export interface Loaders {
  /** The script, for iPXE that runs already: a file of the boot tree, or its URL. */
  ipxe: string | undefined
  /** Files of the boot tree. */
  bios: string | undefined
  efiX64: string | undefined
  efiArm64: string | undefined
  /** URLs, for firmware that boots over HTTP. */
  httpX64: string | undefined
  httpArm64: string | undefined
  /** Whether U-Boot finds a menu. */
  uboot: boolean
  raspberryPi: boolean
}

/**
 * Processor architecture types that machines send in option 93.
 *
 * https://www.iana.org/assignments/dhcpv6-parameters/dhcpv6-parameters.xhtml#processor-architecture
 */
export const architectures = {
  bios: [0],
  efiX64: [7, 9],
  efiArm64: [11],
  httpX64: [16],
  httpArm64: [19],
} as const

/** The first bytes of a Raspberry Pi's hardware address. */
export const raspberryPiPrefixes = [
  'b8:27:eb',
  'dc:a6:32',
  'e4:5f:01',
  'd8:3a:dd',
  '28:cd:c1',
  '2c:cf:67',
  '88:a2:9e',
]

/** A Pi's loader takes part only where the menu of option 43 has this; a Pi 3 wants the blanks. */
export const raspberryPiMenu = 'Raspberry Pi Boot   '

/** @param image the absolute path of the image */
export function planServers(
  image: string,
  { manifest, options }: ReadImage,
  settings: ServerSettings,
): ServerPlan {
  const layout = imageLayout(image, options.rootDirectoryName)
  const nfsRoot = parseNfsRoot(options.nfsRoot)
  const address = settings.address ?? nfsRoot.server
  if (address === undefined || !isIPv4(address)) {
    throw new NetimageError('bad-option', `the server has no address: ${address ?? 'none'} given`, {
      hint: 'Name it with --address, or in nfsRoot.',
    })
  }
  const files = new Set(manifest.boot.files.map((file) => file.path))
  const http = settings.http === true ? `http://${address}/` : settings.http
  return {
    image,
    bootTree: layout.boot,
    rootTree: layout.root,
    nfsRoot,
    address,
    interface: settings.interface,
    network: parseNetwork(settings.network ?? `${address}/24`),
    range: settings.range === undefined ? undefined : parseRange(settings.range),
    loaders: findLoaders(files, http === undefined ? undefined : parseHttp(http)),
  }
}

/** @param http where the boot tree is served over HTTP, with a slash at its end */
function findLoaders(files: ReadonlySet<string>, http: string | undefined): Loaders {
  const first = (...names: string[]) => names.find((name) => files.has(name))
  const urlOf = (file: string | undefined) =>
    file === undefined || http === undefined ? undefined : `${http}${file}`
  const script = first(ipxeScript)
  const efiX64 = first('bootx64.efi', 'snponly.efi', 'ipxe.efi')
  const efiArm64 = first('bootaa64.efi', 'ipxe-arm64.efi')
  return {
    ipxe: urlOf(script) ?? script,
    bios: first('undionly.kpxe', 'ipxe.pxe', 'lpxelinux.0', 'pxelinux.0'),
    efiX64,
    efiArm64,
    httpX64: urlOf(efiX64),
    httpArm64: urlOf(efiArm64),
    uboot: files.has('pxelinux.cfg/default'),
    raspberryPi: files.has('config.txt'),
  }
}

/** A comma would end a field of dnsmasq's, and the name of a file cannot follow a query. */
function parseHttp(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url?.protocol !== 'http:' || /[,?#@]/.test(url.href)) {
    throw new NetimageError('bad-option', `--http: ${JSON.stringify(text)} is no HTTP address`, {
      hint: 'It is that of the boot tree, as in http://10.0.0.5/boot/.',
    })
  }
  return url.href.endsWith('/') ? url.href : `${url.href}/`
}

function parseNetwork(text: string): Network {
  const [, address = '', prefixText = ''] = /^([0-9.]+)\/(\d{1,2})$/.exec(text) ?? []
  const prefix = Number(prefixText)
  if (!isIPv4(address) || prefix < 1 || prefix > 31) {
    throw new NetimageError('bad-option', `--network: ${JSON.stringify(text)} is no network`, {
      hint: 'It is written as in 10.0.0.0/24.',
    })
  }
  const mask = (0xffffffff << (32 - prefix)) >>> 0
  return {
    address: formatAddress((parseAddress(address) & mask) >>> 0),
    prefix,
    netmask: formatAddress(mask),
  }
}

function parseRange(text: string): { first: string; last: string } {
  const [first = '', last = '', ...more] = text.split('-')
  const ordered = parseAddress(first) <= parseAddress(last)
  if (isIPv4(first) && isIPv4(last) && more.length === 0 && ordered) return { first, last }
  throw new NetimageError('bad-option', `--range: ${JSON.stringify(text)} is no range`, {
    hint: 'It is written as in 10.0.0.100-10.0.0.199.',
  })
}

function parseAddress(text: string): number {
  return text.split('.').reduce((value, byte) => value * 256 + Number(byte), 0)
}

function formatAddress(value: number): string {
  return [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join('.')
}

/** The same number for the same export on every server and after every restart. */
export function exportNumber(plan: ServerPlan, limit: number): number {
  const hash = createHash('sha256').update(plan.nfsRoot.path).digest()
  return (hash.readUInt32BE(0) % (limit - 1)) + 1
}

/** A UUID (version 8 of RFC 9562) made from the same. */
export function exportUuid(plan: ServerPlan): string {
  const hash = createHash('sha256').update(plan.nfsRoot.path).digest('hex')
  const parts = [hash.slice(0, 8), hash.slice(8, 12), `8${hash.slice(13, 16)}`]
  return [...parts, `8${hash.slice(17, 20)}`, hash.slice(20, 32)].join('-')
}
