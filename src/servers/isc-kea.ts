/**
 * ISC Kea: a full DHCP server. It has neither proxyDHCP nor TFTP.
 *
 * https://kea.readthedocs.io/en/latest/arm/dhcp4-srv.html
 */
import {
  architectures,
  firmwareKinds,
  raspberryPiArchitecture,
  raspberryPiGuid,
  raspberryPiPrefixes,
  raspberryPiVendorOptions,
  type Firmware,
} from '../firmware.ts'
import { NetimageError } from '../errors.ts'
import type { ServerPlan } from './plan.ts'

const leaseSeconds = 3600
/** The field `file` of a packet has 128 bytes and ends with a zero [RFC 2131 §2]. */
const maxBootFileBytes = 127

/** iPXE: there is no proxyDHCP server to wait for (no-pxedhcp, 176 in option 175). */
const ipxeOptions = 'b00101'

interface ClientClass {
  name: string
  test: string
  'next-server': string
  'boot-file-name'?: string
  'option-data'?: object[]
}

export function keaConfiguration(plan: ServerPlan): string {
  const { range, network, address } = plan
  if (!range) {
    throw new NetimageError(
      'bad-option',
      'Kea needs a range, because it gives the addresses itself',
      {
        hint: 'Name a range, as in --range 10.0.0.100-10.0.0.199. For proxyDHCP use dnsmasq.',
      },
    )
  }
  const configuration = {
    Dhcp4: {
      'interfaces-config': { interfaces: [plan.interface ?? '*'] },
      'lease-database': { type: 'memfile', persist: true, 'lfc-interval': leaseSeconds },
      'valid-lifetime': leaseSeconds,
      // Know a machine by its hardware address: its loader and its system send different
      // identifiers.
      'match-client-id': false,
      'client-classes': clientClasses(plan),
      subnet4: [
        {
          id: 1,
          subnet: `${network.address}/${network.prefix}`,
          pools: [{ pool: `${range.first} - ${range.last}` }],
          'next-server': address,
        },
      ],
      loggers: [{ name: 'kea-dhcp4', severity: 'INFO', output_options: [{ output: 'stdout' }] }],
    },
  }
  return JSON.stringify(configuration, undefined, 2) + '\n'
}

/** Kea tries the classes in order and uses the boot file of the first match. */
function clientClasses({ loaders, address }: ServerPlan): ClientClass[] {
  const classes: ClientClass[] = []
  const add = (name: string, test: string, file: string | undefined, options?: object[]) => {
    if (file === undefined) return
    if (Buffer.byteLength(file) > maxBootFileBytes) {
      throw new NetimageError(
        'bad-option',
        `the name of the boot file is too long for Kea: ${file}`,
        {
          hint: `Kea allows at most ${maxBootFileBytes} bytes. Give --http a shorter address.`,
        },
      )
    }
    classes.push({
      name,
      test,
      'next-server': address,
      ...(file !== '' && { 'boot-file-name': file }),
      ...(options && { 'option-data': options }),
    })
  }
  // Kea has this option as bytes: `.text` would give their hex digits.
  const isIpxe = "option[77].hex == 'iPXE'"
  // If there is a script, a machine that already runs iPXE gets the script and no loader.
  const exceptIpxe = loaders.ipxe === undefined ? '' : ` and not (${isIpxe})`
  const bytes = (code: number, data: string) => [{ code, 'csv-format': false, data }]
  add('ipxe', isIpxe, loaders.ipxe, bytes(175, ipxeOptions))
  if (loaders.raspberryPi) {
    // A Pi that runs UEFI sends another architecture and gets the loader for that. Some loaders
    // send no option 93 in some of their packets.
    const isLoader = `(not option[93].exists or ${hasArchitecture('bios')})`
    const isNewer = `option[93].hex == ${hexArchitecture(raspberryPiArchitecture)}`
    const test = `(${isRaspberryPi()} and ${isLoader}) or ${isNewer}`
    const always = (options: object) => ({ 'always-send': true, ...options })
    add('raspberrypi', test, '', [
      ...bytes(43, raspberryPiVendorOptions.toString('hex')).map(always),
      always({ name: 'vendor-class-identifier', data: 'PXEClient' }),
      always({ name: 'tftp-server-name', data: address }),
    ])
  }
  add('bios', `${hasArchitecture('bios')}${exceptIpxe} and not ${isRaspberryPi()}`, loaders.bios)
  const httpClient = [{ name: 'vendor-class-identifier', data: 'HTTPClient' }]
  for (const kind of firmwareKinds) {
    if (kind === 'bios') continue
    if (kind.startsWith('http')) add(kind, hasArchitecture(kind), loaders[kind], httpClient)
    else add(kind, `${hasArchitecture(kind)}${exceptIpxe}`, loaders[kind])
  }
  return classes
}

function hasArchitecture(name: Firmware): string {
  const tests = architectures[name].map((code) => `option[93].hex == ${hexArchitecture(code)}`)
  return `(${tests.join(' or ')})`
}

function hexArchitecture(code: number): string {
  return `0x${code.toString(16).padStart(4, '0')}`
}

function isRaspberryPi(): string {
  const tests = raspberryPiPrefixes.map(
    (prefix) => `substring(pkt4.mac, 0, 3) == 0x${prefix.replaceAll(':', '')}`,
  )
  const isNamed = `substring(option[97].hex, 0, ${raspberryPiGuid.length / 2}) == 0x${raspberryPiGuid}`
  return `(${[...tests, isNamed].join(' or ')})`
}
