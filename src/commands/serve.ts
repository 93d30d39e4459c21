import { Command, Option } from '@commander-js/extra-typings'

import type { NetimageError } from '../errors.ts'
import type { Boot } from '../boots/follow.ts'
import { notServed, type ServeEvent } from '../protocols/event.ts'
import type { Allowed } from '../serve/identity.ts'
import { visible } from '../printable.ts'
import { plural } from '../progress.ts'
import { remember } from '../remember.ts'
import type { Serving } from '../serve/serve.ts'
import {
  parseAddresses,
  parseAllowed,
  parseDomain,
  parsePort,
  parseReservation,
  refuseWithoutFull,
} from './address-flags.ts'
import { runCommand, type Outcome, type Surroundings } from './run.ts'
import { showBoots, type BootView } from './show-boots.ts'
import { stateOption } from './state-option.ts'

export function serveCommand() {
  return describeServe().action((images, flags) =>
    runCommand({ quiet: true }, (around) => run(images, flags, around)),
  )
}

/** Apart from its action, so that the type of the flags is the one that commander infers. */
function describeServe() {
  return new Command('serve')
    .description('Serve images to machines without disks: DHCP, TFTP, HTTP and NFS')
    .argument('<image...>', 'images that build made; a machine has the first for its processor')
    .addOption(
      new Option('--dhcp <mode>', 'beside the network’s own server, as its only one, or not at all')
        .choices(['proxy', 'full', 'off'] as const)
        .default('proxy' as const),
    )
    .addOption(
      new Option(
        '--allow <machine>',
        'a machine that may boot: its hardware or IP address, or any; repeatable',
      ).argParser(parseAllowed),
    )
    .option('--listen <address>', 'the address to serve on (default: the only one that there is)')
    .option('--interface <name>', 'the network interface to serve on')
    .option('--range <range>', 'with --dhcp full: the addresses to give, 10.0.0.100-10.0.0.199')
    .option('--network <network>', 'with --dhcp full: 10.0.0.0/24 (default: the interface’s)')
    .addOption(
      new Option(
        '--reserve <machine>',
        'with --dhcp full: an address for one machine, dc:a6:32:01:02:03=10.0.0.7; repeatable',
      ).argParser(parseReservation),
    )
    .addOption(
      new Option(
        '--router <address>',
        'with --dhcp full: the way out of the network; repeatable, the best first',
      ).argParser(parseAddresses),
    )
    .addOption(
      new Option(
        '--dns <address>',
        'with --dhcp full: a name server; repeatable, the best first',
      ).argParser(parseAddresses),
    )
    .addOption(
      new Option(
        '--domain <name>',
        'with --dhcp full: the domain of the network’s names',
      ).argParser(parseDomain),
    )
    .option('--force', 'with --dhcp full: serve even where another DHCP server answers')
    .option('--ephemeral', 'let each machine begin each boot without what it wrote before')
    .addOption(stateOption)
    .option('--tftp-port <port>', 'another port for TFTP', parsePort, 69)
    .option('--tftp-single-port', 'keep all of TFTP to one port, for firewalls')
    .option('--http-port <port>', 'another port for HTTP', parsePort, 80)
    .option('--nfs-port <port>', 'another port for NFS', parsePort, 2049)
    .option('--no-port-mapper', 'clients are told the port of NFS by their mount options')
    .option('--json', 'print events as JSON, also on a terminal')
}

type ServeFlags = ReturnType<ReturnType<typeof describeServe>['opts']>

const portMapperPort = 111

async function run(
  images: string[],
  flags: ServeFlags,
  { signal }: Surroundings,
): Promise<Outcome> {
  const { range, network, reserve, router, dns, domain, force } = flags
  refuseWithoutFull(flags.dhcp, { range, network, reserve, router, dns, domain, force })
  const { serve } = await import('../serve/serve.ts')
  const { stateDirectory } = await import('../serve/state.ts')
  // Nothing that is made of machines is for other users.
  process.umask(0o077)
  let view: BootView | undefined
  const warn = (message: string) => {
    if (view) view.say(message)
    else process.stderr.write(`${visible(message)}\n`)
  }
  const allowed = toAllowed(flags.allow ?? [])
  const refused = new Set<string>()
  const see = (boot: Boot, event: ServeEvent, at: number) => {
    if (allowed !== 'any') tellOfRefused(event, refused, warn)
    view?.see(boot, event, at)
  }
  const serving = await serve(
    {
      images,
      state: stateDirectory(flags.state),
      dhcp: flags.dhcp,
      interface: flags.interface,
      address: flags.listen,
      range,
      network,
      reservations: reserve ?? new Map(),
      told: { routers: router ?? [], nameServers: dns ?? [], domain },
      force: force ?? false,
      allowed,
      ephemeral: flags.ephemeral ?? false,
      ports: {
        tftp: flags.tftpPort,
        http: flags.httpPort,
        nfs: flags.nfsPort,
        portMapper: flags.portMapper ? portMapperPort : undefined,
      },
      singlePort: flags.tftpSinglePort ?? false,
      see,
      onError: tellErrors(warn),
    },
    signal,
  )
  for (const line of describe(serving, flags)) warn(line)
  const streams = { output: process.stdout, messages: process.stderr }
  view = showBoots(streams, serving.boots, flags.json ?? false)
  const isInterrupted = new Promise<void>((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
  const failure = await Promise.race([isInterrupted, serving.lost])
  view.close()
  await serving.close()
  if (failure) throw failure
  return { text: '', json: {} }
}

function describe(
  { interface: place, images, ports, elsewhere }: Serving,
  flags: ServeFlags,
): string[] {
  const dhcp = { proxy: 'proxyDHCP', full: 'DHCP', off: 'no DHCP' }[flags.dhcp]
  return [
    ...images.map(({ name, platform, rootPath }) => `${name} (${platform}), root ${rootPath}`),
    `on ${place.address} (${place.name}): ${dhcp}, TFTP ${ports.tftp}, HTTP ${ports.http}, NFS ${ports.nfs}`,
    ...(elsewhere.length === 0
      ? []
      : [
          `${plural(elsewhere.length, 'machine')} ran from another image or another build of one, and must boot again to go on: ${listOf(elsewhere)}`,
        ]),
    ...(flags.allow
      ? []
      : ['no machine may boot yet: --allow MAC names one, --allow any all on this network']),
  ]
}

const maxNamed = 5

function listOf(names: readonly string[]): string {
  const more = names.length - maxNamed
  const named = names.slice(0, maxNamed).join(', ')
  return more > 0 ? `${named} and ${more} more` : named
}

const repeatedMs = 60_000

/** What fails at each request is said once a minute. */
function tellErrors(warn: (line: string) => void): (error: NetimageError) => void {
  const told = new Map<string, number>()
  return ({ message, code, hint }) => {
    const now = performance.now()
    if (now - (told.get(message) ?? -Infinity) < repeatedMs) return
    remember(told, message, now)
    warn(`error: ${message} [${code}]`)
    if (hint !== undefined) warn(`  ${hint}`)
  }
}

/** Once for each: what its owner has to type is the same the next time. */
function tellOfRefused(event: ServeEvent, told: Set<string>, warn: (line: string) => void): void {
  const who = event.mac ?? event.address
  if (event.kind === 'root' || event.reason !== notServed || who === undefined) return
  if (told.has(who) || told.size > 1000) return
  told.add(who)
  warn(`${who} asks, but is not among the machines that are served: --allow ${who} lets it boot`)
}

function toAllowed(names: readonly string[]): Allowed {
  return names.includes('any') ? 'any' : new Set(names)
}
