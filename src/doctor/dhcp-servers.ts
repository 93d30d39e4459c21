/** Which DHCP servers answer on the network of machines, and what they tell machines to boot. */
import { errnoOf, NetimageError } from '../errors.ts'
import { parseAddress } from '../ipv4.ts'
import { macOf } from '../protocols/dhcp/interface.ts'
import { option, textOf } from '../protocols/dhcp/options.ts'
import { collectOffers, givesAddress, type Offer } from '../protocols/dhcp/other-server.ts'
import { anyAddress } from '../protocols/dhcp/packet.ts'
import type { ServedInterface } from '../protocols/interfaces.ts'
import type { DhcpMode } from '../serve/request.ts'
import { runAsRoot, type DoctorFinding } from './finding.ts'
import { addressesOf, isLoopback } from './name-addresses.ts'

interface Kind {
  name: string
  /** IANA's processor architecture type. */
  architecture: number
}

/** Servers tell each kind of firmware another file. */
const kinds: readonly Kind[] = [
  { name: 'BIOS', architecture: 0 },
  { name: 'UEFI on x64', architecture: 7 },
  { name: 'UEFI on arm64', architecture: 11 },
]

/** As firmware asks: [RFC 4578 §2]. */
function optionsOf({ architecture }: Kind): ReadonlyMap<number, Buffer> {
  const code = String(architecture).padStart(5, '0')
  const asksFor = [option.netmask, option.routers, option.vendorOptions]
  return new Map([
    [option.requestList, Buffer.from([...asksFor, option.tftpServer, option.bootFile])],
    [option.vendorClass, Buffer.from(`PXEClient:Arch:${code}:UNDI:002001`)],
    [option.architecture, Buffer.from([0, architecture])],
    [option.networkInterface, Buffer.from([1, 2, 1])],
  ])
}

export async function examineDhcpServers(
  dhcp: DhcpMode,
  { name, address }: Pick<ServedInterface, 'name' | 'address'>,
  signal: AbortSignal,
): Promise<DoctorFinding[]> {
  const mac = macOf(name)
  if (mac === undefined)
    return [cannotTell(name, 'its cable is not connected', 'Connect the cable.')]
  try {
    const offers = await collectOffers(name, mac, kinds.map(optionsOf), signal)
    const servers = serversIn(offers)
    return judge(dhcp, { name, address }, servers, await namesOf(address, servers))
  } catch (error) {
    if (!(error instanceof NetimageError) || signal.aborted) throw error
    const errno = errnoOf(error.cause)
    const isRefused = errno === 'EACCES' || errno === 'EPERM'
    return [cannotTell(name, error.message, isRefused ? runAsRoot : error.hint)]
  }
}

function cannotTell(name: string, why: string, hint: string | undefined): DoctorFinding {
  return {
    code: 'dhcp-unknown',
    level: 'note',
    message: `cannot tell which DHCP servers answer on ${name}: ${why}`,
    hint,
  }
}

interface FoundServer {
  address: string
  givesAddresses: boolean
  /** What the server tells each kind of firmware to boot, by its name; empty if it tells nothing. */
  boot: ReadonlyMap<string, Boot>
}

interface Boot {
  /** `siaddr`, or option 66; undefined: the server itself. */
  from: string | undefined
  /** `file`, or option 67. */
  file: string | undefined
  /** Option 43: the options of PXE, such as a menu. */
  hasPxeOptions: boolean
}

/** @param offers for each of `kinds` */
function serversIn(offers: readonly (readonly Offer[])[]): FoundServer[] {
  const found = new Map<string, { givesAddresses: boolean; boot: Map<string, Boot> }>()
  for (const [index, { name }] of kinds.entries()) {
    for (const offer of offers[index] ?? []) {
      const server = found.get(offer.server) ?? { givesAddresses: false, boot: new Map() }
      found.set(offer.server, server)
      server.givesAddresses ||= givesAddress(offer)
      const boot = bootIn(offer)
      if (boot) server.boot.set(name, boot)
    }
  }
  return [...found]
    .map(([address, server]) => ({ address, ...server }))
    .toSorted((a, b) => parseAddress(a.address) - parseAddress(b.address))
}

/** @returns undefined if the offer tells nothing to boot: `siaddr` alone does not count */
function bootIn({ server, packet }: Offer): Boot | undefined {
  const { nextServer, options } = packet
  const text = (code: number) => {
    const value = options.get(code)
    return value && textOf(value)
  }
  const field = packet.file === '' ? undefined : textOf(Buffer.from(packet.file, 'latin1'))
  const file = text(option.bootFile) ?? field
  const named = text(option.tftpServer)
  const next = nextServer === anyAddress || nextServer === server ? undefined : nextServer
  const hasPxeOptions = options.has(option.vendorOptions)
  if (file === undefined && named === undefined && !hasPxeOptions) return undefined
  return { from: next ?? named, file, hasPxeOptions }
}

/** Option 66 may be a host name. @returns the names and addresses in the offers that mean `address` */
async function namesOf(address: string, servers: readonly FoundServer[]): Promise<Set<string>> {
  const names = servers.flatMap(({ boot }) => [...boot.values()].map(({ from }) => from ?? address))
  const own = new Set([address])
  for (const name of new Set(names)) {
    const addresses = await addressesOf(name)
    const isOwnName = addresses.length > 0 && addresses.every(isLoopback)
    if (isOwnName || addresses.includes(address)) own.add(name)
  }
  return own
}

/** @param own the names and addresses of our own server, which is `address` */
function judge(
  dhcp: DhcpMode,
  { name, address }: Pick<ServedInterface, 'name' | 'address'>,
  servers: readonly FoundServer[],
  own: ReadonlySet<string>,
): DoctorFinding[] {
  const giving = servers.filter(({ givesAddresses }) => givesAddresses)
  const isOurs = (server: FoundServer) =>
    [...server.boot.values()].every(({ from }) => own.has(from ?? server.address))
  const isToldOurs = servers.some((server) => server.boot.size > 0 && isOurs(server))
  const findings = servers.map((server) => {
    // With --dhcp off, one of the servers must tell machines to boot from here.
    const isFine = isOurs(server) && (dhcp !== 'off' || isToldOurs)
    return judgeServer(dhcp, { name, address }, server, isFine)
  })
  if (giving.length > 0 || dhcp === 'full') return findings
  const who = servers.length > 0 ? 'gives addresses' : 'answers'
  return [
    ...findings,
    {
      code: 'no-dhcp-server',
      level: 'warning',
      message: `no DHCP server ${who} on ${name}: with --dhcp ${dhcp}, machines get their addresses from another server (one that gives addresses only to machines that it knows may not have answered)`,
      fix: `netimage serve --interface ${name} --dhcp full --range FIRST-LAST`,
    },
  ]
}

function judgeServer(
  dhcp: DhcpMode,
  { name, address }: Pick<ServedInterface, 'name' | 'address'>,
  server: FoundServer,
  isFine: boolean,
): DoctorFinding {
  const boots = describeBoot(server.boot)
  const isHere = server.address === address
  const who = `the DHCP server ${server.address}${isHere ? ' (this computer)' : ''} on ${name}`
  const does = server.givesAddresses ? 'gives addresses' : 'gives no addresses'
  const message = `${who} ${does}, and ${boots}`
  const base = { code: 'dhcp-server', message } as const
  if (dhcp === 'full' && server.givesAddresses) {
    const fix = `netimage serve --interface ${name} --dhcp proxy`
    return { ...base, level: 'error', fix, hint: 'Or switch that server off.' }
  }
  if (isFine) return { ...base, level: 'note' }
  if (dhcp === 'off') {
    const fix = `netimage serve --interface ${name} --dhcp proxy`
    const hint = `Or let ${server.address} tell machines that their boot files are on ${address}.`
    return { ...base, level: 'warning', fix, hint }
  }
  return {
    ...base,
    level: 'warning',
    message: `${message}: firmware may follow it instead of netimage`,
    hint: `Remove from the configuration of ${server.address} what machines are told to boot (siaddr, file, options 43, 66 and 67).`,
  }
}

/** Kinds of firmware that are told the same are told together. */
function describeBoot(boot: ReadonlyMap<string, Boot>): string {
  if (boot.size === 0) return 'does not tell machines what to boot'
  const kindsByText = new Map<string, string[]>()
  for (const [kind, { file, from, hasPxeOptions }] of boot) {
    const parts = [
      ...(file === undefined ? [] : [`the file ${JSON.stringify(file)}`]),
      ...(from === undefined ? [] : [`the server ${from}`]),
      ...(hasPxeOptions ? ['the options of PXE (option 43)'] : []),
    ]
    const text = parts.join(' and ')
    kindsByText.set(text, [...(kindsByText.get(text) ?? []), kind])
  }
  const told = [...kindsByText].map(([text, kinds]) => `${kinds.join(', ')}: ${text}`)
  return `tells machines what to boot (${told.join('; ')})`
}
