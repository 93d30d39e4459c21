/** Whether a firewall of this computer drops what machines send to the server. */
import type { ServedInterface } from '../../protocols/interfaces.ts'
import { runAsRoot, type DoctorFinding } from '../finding.ts'
import { saysService, type Service } from '../services.ts'
import { opens, parseService, parseZone, type OpeningService } from './firewalld.ts'
import { parseIptables } from './iptables.ts'
import { parseNft } from './nft.ts'
import { firstPacket } from './packet.ts'
import { ask, type Said } from '../program.ts'
import { judge, type BaseChain } from './rules.ts'

/** @throws `NetimageError` `interrupted` */
export async function examineFirewall(
  services: readonly Service[],
  place: ServedInterface,
  signal: AbortSignal,
): Promise<DoctorFinding[]> {
  const settings = { services, place, signal }
  const zone = await examineFirewalld(settings)
  const iptables = await examineIptables(settings)
  const nft = await examineNft(settings, iptables.tables, zone !== undefined)
  const seen = [zone, iptables.findings, nft].filter((each) => each !== undefined)
  if (seen.length > 0) return seen.flat()
  return [
    {
      code: 'firewall-unknown',
      level: 'note',
      message:
        'cannot tell whether a firewall drops what machines send: neither nft nor iptables-save was found',
      hint: 'Install nftables.',
    },
  ]
}

interface Settings {
  services: readonly Service[]
  place: ServedInterface
  signal: AbortSignal
}

/** @returns undefined if it does not run here */
async function examineFirewalld({ services, place, signal }: Settings) {
  const { name } = place
  const state = await ask('firewall-cmd', ['--state'], signal)
  if (state.kind !== 'said' || state.text.trim() !== 'running') return undefined
  const found = await ask('firewall-cmd', [`--get-zone-of-interface=${name}`], signal)
  const usual =
    found.kind === 'said' ? found : await ask('firewall-cmd', ['--get-default-zone'], signal)
  const zone = usual.kind === 'said' ? usual.text.trim() : ''
  const listed = await ask('firewall-cmd', [`--zone=${zone}`, '--list-all'], signal)
  if (listed.kind !== 'said') {
    return [refused('firewalld', `firewall-cmd --zone=${zone} --list-all`, whyOf(listed))]
  }
  const parsed = parseZone(listed.text)
  const openings = await servicesOfFirewalld(parsed.services, signal)
  const sure = [parsed, ...openings.filter(({ isSure }) => isSure)]
  const isOpen = (service: Service) =>
    parsed.isAccepting || sure.some((each) => opens(each, service))
  const mayBeOpen = (service: Service) =>
    !parsed.isPlain || openings.some((each) => opens(each, service))
  const closed = services.filter((service) => !isOpen(service))
  const where = `the zone ${zone} of firewalld`
  return [
    { tell: dropped, told: closed.filter((service) => !mayBeOpen(service)) },
    { tell: notKnown, told: closed.filter(mayBeOpen) },
  ].flatMap(({ tell, told }) => {
    if (told.length === 0) return []
    const flags = told.map(({ transport, port }) => `--add-port=${port}/${transport}`).join(' ')
    const fix = `firewall-cmd --permanent --zone=${zone} ${flags} && firewall-cmd --reload`
    return [tell(told, name, where, fix)]
  })
}

/**
 * @param names a service may include others
 * @returns what each of them opens; one that firewalld does not tell may open all ports
 */
async function servicesOfFirewalld(
  names: readonly string[],
  signal: AbortSignal,
): Promise<OpeningService[]> {
  const openings = new Map<string, OpeningService>()
  const left = [...names]
  for (let name = left.pop(); name !== undefined; name = left.pop()) {
    if (openings.has(name)) continue
    const said = await ask('firewall-cmd', [`--info-service=${name}`], signal)
    const opening = said.kind === 'said' ? parseService(said.text) : untold
    openings.set(name, opening)
    left.push(...opening.services)
  }
  return [...openings.values()]
}

const untold: OpeningService = {
  ports: [],
  protocols: ['tcp', 'udp'],
  services: [],
  isSure: false,
}

/** @returns also the tables that iptables keeps in nftables; no findings if the program is missing */
async function examineIptables({ services, place, signal }: Settings) {
  const said = await ask('iptables-save', [], signal)
  if (said.kind === 'missing') return { tables: new Set<string>(), findings: undefined }
  if (said.kind === 'refused') {
    return { tables: new Set<string>(), findings: [refused('iptables', 'iptables-save', said.why)] }
  }
  const isInNft = said.text.includes('(nf_tables)')
  // A machine may have tables of both kinds; then iptables-save warns of them.
  const old =
    isInNft || said.complaints.includes('iptables-legacy')
      ? await ask('iptables-legacy-save', [], signal)
      : undefined
  const read = [
    { program: 'iptables', text: said.text },
    ...(old?.kind === 'said' ? [{ program: 'iptables-legacy', text: old.text }] : []),
  ].map(({ program, text }) => ({ program, ...parseIptables(text) }))
  const findings = read.flatMap(({ program, chains }) =>
    chains.flatMap((chain) => {
      const add = (protocol: string, ports: readonly number[]) =>
        `${program} -t ${chain.table} -I ${chain.chain} -i ${place.name} -p ${protocol} -m multiport --dports ${ports.join(',')} -j ACCEPT`
      const where = `${program} (table ${chain.table}, chain ${chain.chain})`
      const isOfNixos = chain.chains.has('nixos-fw')
      const list = `${program} -t ${chain.table} -S ${chain.chain}`
      return judgeChain(chain, { services, place, where, add, list, isOfNixos })
    }),
  )
  return { tables: new Set(isInNft ? read[0]?.tables : []), findings }
}

/** @returns undefined if the program is missing */
async function examineNft(
  { services, place, signal }: Settings,
  ofIptables: ReadonlySet<string>,
  hasFirewalld: boolean,
) {
  const said = await ask('nft', ['-j', 'list', 'ruleset'], signal)
  if (said.kind === 'missing') return undefined
  const command = 'nft -j list ruleset'
  if (said.kind === 'refused') return [refused('nftables', command, said.why)]
  const chains = parseNft(said.text, place.name)
  if (!chains) return [notRead('nftables', command, 'it prints no JSON that can be read')]
  return chains.flatMap((chain) => {
    const { family, table, chain: name } = chain
    if (family === 'ip' && ofIptables.has(table)) return []
    if (hasFirewalld && table === 'firewalld') return []
    const at = `${family} ${table} ${name}`
    const add = (protocol: string, ports: readonly number[]) =>
      `nft 'insert rule ${at} iifname "${place.name}" ${protocol} dport { ${ports.join(', ')} } accept'`
    const where = `nftables (table ${family} ${table}, chain ${name})`
    const isOfNixos = table === 'nixos-fw'
    const list = `nft list chain ${at}`
    return judgeChain(chain, { services, place, where, add, list, isOfNixos })
  })
}

interface JudgedChain {
  services: readonly Service[]
  place: ServedInterface
  where: string
  /** The command that opens ports. */
  add: (protocol: 'tcp' | 'udp', ports: readonly number[]) => string
  /** The command that shows the chain. */
  list: string
  /** Whether NixOS makes the rules from its configuration. */
  isOfNixos: boolean
}

function judgeChain(chain: BaseChain, judged: JudgedChain): DoctorFinding[] {
  const { services, place, where, add, list, isOfNixos } = judged
  const judgements = services.map((service) => ({
    service,
    result: judge(chain, firstPacket(service, place)),
  }))
  const withResult = (wanted: string) =>
    judgements.filter(({ result }) => result === wanted).map(({ service }) => service)
  const [drops, unknown] = [withResult('drop'), withResult('unknown')]
  const findings: DoctorFinding[] = []
  if (drops.length > 0) {
    const fix = (['tcp', 'udp'] as const).flatMap((protocol) => {
      const ports = portsOf(drops, protocol)
      if (ports.length === 0) return []
      return [isOfNixos ? nixosLine(place.name, protocol, ports) : add(protocol, ports)]
    })
    findings.push(dropped(drops, place.name, where, fix.join('\n')))
  }
  if (unknown.length > 0)
    findings.push(notKnown(unknown, place.name, where, `Look at its rules: ${list}`))
  return findings
}

function portsOf(services: readonly Service[], protocol: 'tcp' | 'udp'): number[] {
  return services.filter(({ transport }) => transport === protocol).map(({ port }) => port)
}

function nixosLine(device: string, protocol: 'tcp' | 'udp', ports: readonly number[]): string {
  const option = protocol === 'tcp' ? 'allowedTCPPorts' : 'allowedUDPPorts'
  return `networking.firewall.interfaces.${JSON.stringify(device)}.${option} = [ ${ports.join(' ')} ];`
}

function dropped(
  services: readonly Service[],
  device: string,
  where: string,
  fix: string,
): DoctorFinding {
  const message = `${where} drops what machines on ${device} send to ${services.map(saysService).join(', ')}`
  return { code: 'firewall', level: 'error', message, fix }
}

function notKnown(
  services: readonly Service[],
  device: string,
  where: string,
  hint: string,
): DoctorFinding {
  const message = `cannot tell whether ${where} drops what machines on ${device} send to ${services.map(saysService).join(', ')}: this depends on what the doctor does not know yet, such as the address of the machine or how many packets it sends`
  return { code: 'firewall-unknown', level: 'note', message, hint }
}

/** Root may read all rules: if a program fails for root, the person must see what it says. */
function refused(what: string, command: string, why: string): DoctorFinding {
  return notRead(what, command, why, process.geteuid?.() === 0 ? undefined : runAsRoot)
}

function whyOf(said: Said): string {
  return said.kind === 'refused' ? said.why : 'it is missing'
}

function notRead(what: string, command: string, why: string, hint?: string): DoctorFinding {
  const message = `cannot tell what ${what} drops: ${command}: ${why}`
  return { code: 'firewall-unknown', level: 'note', message, hint }
}
