/**
 * dnsmasq: DHCP or proxyDHCP, and TFTP.
 *
 * https://dnsmasq.org/docs/dnsmasq-man.html
 */
import type { Loaders } from '../boot/loaders.ts'
import {
  architectures,
  firmwareKinds,
  raspberryPiArchitecture,
  raspberryPiGuid,
  raspberryPiMenu,
  raspberryPiPrefixes,
  raspberryPiVendorOptions,
  type Firmware,
} from '../firmware.ts'
import type { ServerPlan } from './plan.ts'

/** dnsmasq's names of the architectures of PXE's boot menu. */
const services = [
  { loader: 'bios', service: 'x86PC' },
  { loader: 'efiX64', service: 'X86-64_EFI' },
  // Type 9, which IANA has for the same, under the name that type 7 had once.
  { loader: 'efiX64', service: 'BC_EFI' },
  { loader: 'efiArm64', service: 'ARM64_EFI' },
  // It has no name for this one.
  { loader: 'efiRiscv64', service: '27' },
] as const

export function dnsmasqConfiguration(plan: ServerPlan): string {
  const full = plan.range !== undefined
  const lines = [
    `# dnsmasq for ${plan.image}, by netimage.`,
    '# Try it with: dnsmasq --no-daemon --conf-file=THIS',
    'port=0',
    ...(plan.interface === undefined ? [] : [`interface=${plan.interface}`, 'bind-interfaces']),
    'log-dhcp',
    '',
    'enable-tftp',
    `tftp-root=${quote(plan.bootTree)}`,
    '# Loaders that are not asked to share a packet with options read the plain fields.',
    'dhcp-no-override',
    '',
    ...addressLines(plan),
    '',
    '# What a machine says of itself: option 93, and whether it runs iPXE already.',
    ...matchLines(),
    '',
    ...(full ? bootLines(plan) : serviceLines(plan)),
    ...httpLines(plan),
    ...raspberryPiLines(plan),
  ]
  return lines.join('\n') + '\n'
}

/** Between quotes, neither a comma nor a number sign means anything. */
function quote(path: string): string {
  return /^[\w./+-]+$/.test(path) ? path : `"${path.replace(/["\\]/g, String.raw`\$&`)}"`
}

function addressLines({ range, network }: ServerPlan): string[] {
  if (range) {
    const { first, last } = range
    return [
      '# A machine is its hardware address: its loader and its system send different identifiers.',
      'dhcp-ignore-clid',

      'dhcp-authoritative',
      `dhcp-range=${first},${last},${network.netmask},1h`,
    ]
  }
  return [
    '# proxyDHCP: another server gives the addresses. U-Boot cannot use that: give it --range.',
    `dhcp-range=${network.address},proxy,${network.netmask}`,
  ]
}

function matchLines(): string[] {
  const byArchitecture = Object.entries(architectures).flatMap(([name, codes]) =>
    codes.map((code) => `dhcp-match=set:${name},option:client-arch,${code}`),
  )
  const pis = raspberryPiPrefixes.map((prefix) => `dhcp-mac=set:raspberrypi,${prefix}:*:*:*`)
  return [
    ...byArchitecture,
    'dhcp-userclass=set:ipxe,iPXE',
    ...pis,
    // By what its loader says, whatever its hardware address.
    `dhcp-match=set:raspberrypi,97,${colons(raspberryPiGuid)}`,
    `dhcp-match=set:raspberrypi,option:client-arch,${raspberryPiArchitecture}`,
  ]
}

/** Bytes in hex as dnsmasq has them. */
function colons(hex: string): string {
  return hex.replaceAll(/(..)(?=.)/g, '$1:')
}

/** The boot file, as a DHCP server gives it. */
function bootLines({ loaders, address }: ServerPlan): string[] {
  const others = exceptIpxe(loaders)
  const lines: string[] = []
  const boot = (tags: string[], file: string | undefined) => {
    if (file !== undefined) lines.push(`dhcp-boot=${tags.join(',')},${file},,${address}`)
  }
  boot(['tag:ipxe'], loaders.ipxe)
  boot(['tag:bios', 'tag:!raspberrypi', ...others], loaders.bios)
  for (const kind of efiKinds) boot([`tag:${kind}`, ...others], loaders[kind])
  if (loaders.ipxe !== undefined) {
    lines.push('# iPXE: there is no proxyDHCP server to wait for (no-pxedhcp).')
    lines.push('dhcp-option=tag:ipxe,encap:175,176,1b')
  }
  return lines
}

/** What runs iPXE already gets the script, where there is one; else what everybody gets. */
function exceptIpxe({ ipxe }: Loaders): string[] {
  return ipxe === undefined ? [] : ['tag:!ipxe']
}

/** The boot menu, as a proxyDHCP server gives it; iPXE takes the file without one. */
function serviceLines({ loaders, address }: ServerPlan): string[] {
  const lines: string[] = []
  if (loaders.ipxe !== undefined) lines.push(`dhcp-boot=tag:ipxe,${loaders.ipxe},,${address}`)
  for (const { loader, service } of services) {
    const file = loaders[loader]
    const except = [...(loader === 'bios' ? ['tag:!raspberrypi'] : []), ...exceptIpxe(loaders)]
    if (file !== undefined) {
      lines.push(`pxe-service=${[...except, service].join(',')},"NixOS",${file}`)
    }
  }
  return lines
}

/** UEFI HTTP boot takes a URL, and only from who answers as an HTTP client's server. */
function httpLines({ loaders, range }: ServerPlan): string[] {
  const lines: string[] = []
  const http = (tag: string, url: string | undefined) => {
    if (url === undefined) return
    lines.push(`dhcp-option-force=tag:${tag},option:vendor-class,HTTPClient`)
    lines.push(`dhcp-boot=tag:${tag},${url}`)
  }
  if (range) for (const kind of httpKinds) http(kind, loaders[kind])
  return lines.length > 0 ? ['', '# UEFI HTTP boot.', ...lines] : []
}

/**
 * A proxy must have the menu from dnsmasq itself, which gives it to whoever says `PXEClient`. Some
 * loaders do so in their first packet only, so a server that gives the addresses goes by the machine.
 */
function raspberryPiLines({ loaders, range, address }: ServerPlan): string[] {
  if (!loaders.raspberryPi) return []
  if (!range) return ['', `pxe-service=tag:raspberrypi,0,"${raspberryPiMenu}"`]
  // What a Pi starts may be UEFI, U-Boot or iPXE, which look for other things.
  const tags = ['raspberrypi', '!ipxe', ...[...efiKinds, ...httpKinds].map((kind) => `!${kind}`)]
  const force = `dhcp-option-force=${tags.map((tag) => `tag:${tag}`).join(',')}`
  return [
    '',
    '# The menu that a Raspberry Pi looks for, and its server.',
    `${force},option:vendor-class,PXEClient`,
    `${force},43,${colons(raspberryPiVendorOptions.toString('hex'))}`,
    `${force},66,${address}`,
  ]
}

const efiKinds = firmwareKinds.filter((kind): kind is Firmware => kind.startsWith('efi'))
const httpKinds = firmwareKinds.filter((kind): kind is Firmware => kind.startsWith('http'))
