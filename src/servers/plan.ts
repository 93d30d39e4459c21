/** The facts about an image and the network that the configuration of a server needs. */
import { createHash } from 'node:crypto'
import { isIPv4 } from 'node:net'
import { join } from 'node:path'

import { findLoaders, type Loaders } from '../boot/loaders.ts'
import { processorOfProgram } from '../boot/pe.ts'
import { NetimageError } from '../errors.ts'
import { imageLayout } from '../image/layout.ts'
import type { ReadImage } from '../image/manifest.ts'
import {
  isInNetwork,
  isInRange,
  parseNetwork,
  parseRange,
  type AddressRange,
  type Network,
} from '../ipv4.ts'
import { parseNfsRoot, type NfsRoot } from '../nixos/nfs-root.ts'

export interface ServerSettings {
  /** The server's address. Default: the address in nfsRoot. */
  address?: string | undefined
  /** The server's network interface. */
  interface?: string | undefined
  /** The network, as in `10.0.0.0/24`. */
  network?: string | undefined
  /** Addresses to give, as in `10.0.0.100-10.0.0.199`. If unset, another DHCP server gives them. */
  range?: string | undefined
  /** The URL of the boot tree over HTTP; true: `http://<address>/`. */
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
  range: AddressRange | undefined
  loaders: Loaders
}

/** @param image the absolute path of the image */
export function planServers(
  image: string,
  { manifest, options }: ReadImage,
  settings: ServerSettings,
): ServerPlan {
  const layout = imageLayout(image, options.rootDirectoryName)
  const nfsRoot = parseNfsRoot(options.nfsRoot)
  refuseControlCharacters(image)
  const address = settings.address ?? nfsRoot.server
  if (address === undefined || !isIPv4(address)) {
    const why = address === undefined ? 'none was given' : `${address} is no IPv4 address`
    throw new NetimageError('bad-option', `the server’s address is not known: ${why}`, {
      hint: 'Name the server’s IPv4 address with --address, or in nfsRoot.',
    })
  }
  const network = parseNetwork(settings.network ?? `${address}/24`)
  const range = settings.range === undefined ? undefined : parseRange(settings.range)
  if (range) refuseOtherRange(range, network, address)
  const files = new Set(manifest.boot.files.map((file) => file.path))
  const http = settings.http === true ? `http://${address}/` : settings.http
  return {
    image,
    bootTree: layout.boot,
    rootTree: layout.root,
    nfsRoot,
    address,
    interface: settings.interface === undefined ? undefined : parseInterface(settings.interface),
    network,
    range,
    loaders: findLoaders(
      files,
      (file) => processorOfProgram(join(layout.boot, file)),
      http === undefined ? undefined : parseHttp(http),
    ),
  }
}

/**
 * In dnsmasq's file a comma ends a field and a quote begins a text; URLs allow a quote in a host
 * name. File names are appended to the URL, so it must not have a query.
 */
function parseHttp(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url?.protocol !== 'http:' || /[",?#@]/.test(url.href)) {
    throw new NetimageError('bad-option', `--http: ${JSON.stringify(text)} is no HTTP address`, {
      hint: 'Name the URL of the boot tree, as in http://10.0.0.5/boot/.',
    })
  }
  return url.href.endsWith('/') ? url.href : `${url.href}/`
}

/** A line break would begin a new line of the file, and servers treat the others differently. */
function refuseControlCharacters(image: string): void {
  if (!/\p{Cc}/u.test(image)) return
  throw new NetimageError('bad-option', `${JSON.stringify(image)} has control characters`, {
    hint: 'No server can be configured with such a path. Rename the image.',
  })
}

/** Servers give no addresses of another network, and no machine may get the server's address. */
function refuseOtherRange(range: AddressRange, network: Network, address: string): void {
  const shown = `--range ${range.first}-${range.last}`
  const whole = `${network.address}/${network.prefix}`
  if (!isInNetwork(range.first, network) || !isInNetwork(range.last, network)) {
    throw new NetimageError('bad-option', `${shown} is not within the network ${whole}`, {
      hint: 'Name the network, as in --network 10.0.0.0/16, or name a range within the network.',
    })
  }
  if (isInRange(address, range)) {
    throw new NetimageError(
      'bad-option',
      `${shown} includes the server’s own address, ${address}`,
      {
        hint: 'Name a range without the server’s address.',
      },
    )
  }
}

/** The kernel allows more names, but they are not in use, and some servers read them as lists. */
function parseInterface(text: string): string {
  if (/^[\w.-]{1,15}$/.test(text)) return text
  throw new NetimageError('bad-option', `--interface: ${JSON.stringify(text)} is no interface`, {
    hint: 'Name an interface that `ip link` shows, as in eth0.',
  })
}

/** A number made from the path, so it is the same on every server and after every restart. */
export function exportNumber(plan: ServerPlan, limit: number): number {
  const hash = createHash('sha256').update(plan.nfsRoot.path).digest()
  return (hash.readUInt32BE(0) % (limit - 1)) + 1
}

/** A UUID (version 8 of RFC 9562), also made from the path. */
export function exportUuid(plan: ServerPlan): string {
  const hash = createHash('sha256').update(plan.nfsRoot.path).digest('hex')
  const parts = [hash.slice(0, 8), hash.slice(8, 12), `8${hash.slice(13, 16)}`]
  return [...parts, `8${hash.slice(17, 20)}`, hash.slice(20, 32)].join('-')
}
