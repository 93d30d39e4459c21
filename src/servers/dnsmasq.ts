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
  // Type 9 is also UEFI on x86-64. dnsmasq uses the name that type 7 had in the past.
  { loader: 'efiX64', service: 'BC_EFI' },
  { loader: 'efiArm64', service: 'ARM64_EFI' },
  // dnsmasq has no name for RISC-V.
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
    '# Some loaders read the boot file only from the fixed fields of the packet.',
    'dhcp-no-override',
    '',
    ...addressLines(plan),
    '',
    '# Tags by what a machine sends: its firmware (option 93), and whether it runs iPXE already.',
    ...matchLines(),
    '',
    ...(full ? bootLines(plan) : serviceLines(plan)),
    ...httpLines(plan),
    ...raspberryPiLines(plan),
  ]
  return lines.join('\n') + '\n'
}

/** Between quotes, a comma and a number sign are ordinary characters. */
function quote(path: string): string {
  return /^[\w./+-]+$/.test(path) ? path : `"${path.replace(/["\\]/g, String.raw`\$&`)}"`
}

function addressLines({ range, network }: ServerPlan): string[] {
  if (range) {
    const { first, last } = range
    return [
      '# Know a machine by its hardware address: its loader and its system send different identifiers.',
      'dhcp-ignore-clid',

      'dhcp-authoritative',
      `dhcp-range=${first},${last},${network.netmask},1h`,
    ]
  }
  return [
    '# proxyDHCP: another server gives the addresses. U-Boot does not support this: use --range for U-Boot.',
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
    // The loader's options also tell a Pi that has another hardware address.
    `dhcp-match=set:raspberrypi,97,${colons(raspberryPiGuid)}`,
    `dhcp-match=set:raspberrypi,option:client-arch,${raspberryPiArchitecture}`,
  ]
}

/** Bytes in hex, in dnsmasq's form. */
function colons(hex: string): string {
  return hex.replaceAll(/(..)(?=.)/g, '$1:')
}

/** The boot files, if dnsmasq is the DHCP server. */
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

/** If there is a script, a machine that already runs iPXE gets the script and no loader. */
function exceptIpxe({ ipxe }: Loaders): string[] {
  return ipxe === undefined ? [] : ['tag:!ipxe']
}

/** The boot menu of a proxyDHCP server. iPXE needs no menu. */
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

/** UEFI HTTP boot takes a URL only from an answer with the vendor class `HTTPClient`. */
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
 * As a proxy, dnsmasq makes the menu itself and sends it to clients that say `PXEClient`. Some
 * loaders say this in their first packet only. So if dnsmasq gives the addresses, the options
 * depend on the machine's tag.
 */
function raspberryPiLines({ loaders, range, address }: ServerPlan): string[] {
  if (!loaders.raspberryPi) return []
  if (!range) return ['', `pxe-service=tag:raspberrypi,0,"${raspberryPiMenu}"`]
  // A Pi may also run UEFI, U-Boot or iPXE, which need other answers.
  const tags = ['raspberrypi', '!ipxe', ...[...efiKinds, ...httpKinds].map((kind) => `!${kind}`)]
  const force = `dhcp-option-force=${tags.map((tag) => `tag:${tag}`).join(',')}`
  return [
    '',
    '# A Raspberry Pi requires this menu, and takes its TFTP server from option 66.',
    `${force},option:vendor-class,PXEClient`,
    `${force},43,${colons(raspberryPiVendorOptions.toString('hex'))}`,
    `${force},66,${address}`,
  ]
}

const efiKinds = firmwareKinds.filter((kind): kind is Firmware => kind.startsWith('efi'))
const httpKinds = firmwareKinds.filter((kind): kind is Firmware => kind.startsWith('http'))
