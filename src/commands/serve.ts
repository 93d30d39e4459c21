import { availableParallelism } from 'node:os'
import { Command, Option } from '@commander-js/extra-typings'

import type { NetimageError } from '../errors.ts'
import { keepGivingBackMemory } from '../give-back-memory.ts'
import type { Boot } from '../boots/follow.ts'
import { notServed, type ServeEvent } from '../protocols/event.ts'
import type { Allowed } from '../serve/identity.ts'
import { visible } from '../printable.ts'
import { remember } from '../remember.ts'
import type { Serving } from '../serve/serve.ts'
import { saysOfRollout, saysOfTold } from '../site/log/sentence.ts'
import type { RolloutTold } from '../site/rollout/rollout.ts'
import { stateOption } from './common-options.ts'
import * as networkFlags from './network-flags.ts'
import {
  parseAddresses,
  parseAllowed,
  parseDomain,
  parseLayerSize,
  parseNames,
  parsePage,
  parseReservation,
  parseWorkers,
  refuseWithoutFull,
  workersFor,
} from './serve-flags.ts'
import { runCommand, type Outcome, type Surroundings } from './run.ts'
import { servePage } from './serve-page.ts'
import { showBoots, type BootView } from './show-boots.ts'
import { findMachine } from './site-machine.ts'

export function serveCommand() {
  return describeServe().action((images, flags) =>
    runCommand({ quiet: flags.json }, (around) => run(images, flags, around)),
  )
}

/** Separate from the action, so that commander infers the type of the flags. */
function describeServe() {
  return new Command('serve')
    .description('Serve images to machines without disks: DHCP, TFTP, HTTP and NFS')
    .argument(
      '[image...]',
      'images that build made: a machine for which nobody chose an image gets the one for its processor',
    )
    .addOption(networkFlags.dhcpOption)
    .addOption(
      new Option(
        '--allow <machine>',
        'a machine that may boot: its hardware or IP address, its name in the site, or any; repeatable',
      ).argParser(parseAllowed),
    )
    .addOption(networkFlags.listenOption)
    .addOption(networkFlags.interfaceOption)
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
        'with --dhcp full: the router of the network; repeatable, the best first',
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
    .option('--force', 'with --dhcp full: serve even if another DHCP server answers')
    .option('--ephemeral', 'at each boot, remove all that the machine wrote before')
    .addOption(
      new Option(
        '--layer-size <size>',
        'the most that each machine may write, as in 20G (default: all of the disk)',
      ).argParser(parseLayerSize),
    )
    .addOption(stateOption)
    .addOption(networkFlags.tftpPortOption)
    .option(
      '--tftp-single-port',
      'use one port for all of TFTP, for firewalls; one process then sends all of it',
    )
    .addOption(networkFlags.httpPortOption)
    .addOption(networkFlags.nfsPortOption)
    .addOption(networkFlags.noPortMapperOption)
    .option(
      '--workers <number>',
      'how many processes serve the machines; 0: one process does all (default: by the processors)',
      parseWorkers,
    )
    .addOption(
      new Option(
        '--page <place>',
        'where the status page is, for who may see all machines: ADDRESS:PORT, or off (default: 127.0.0.1:8080)',
      ).argParser(parsePage),
    )
    .addOption(
      new Option(
        '--page-name <name>',
        'a host name of this server by which browsers ask for the page; repeatable',
      ).argParser(parseNames),
    )
    .option('--json', 'print events as JSON, even on a terminal')
}

type ServeFlags = ReturnType<ReturnType<typeof describeServe>['opts']>

async function run(
  images: string[],
  flags: ServeFlags,
  { signal, progress }: Surroundings,
): Promise<Outcome> {
  const { range, network, reserve, router, dns, domain, force } = flags
  refuseWithoutFull(flags.dhcp, { range, network, reserve, router, dns, domain, force })
  const { serve } = await import('../serve/serve.ts')
  const { stateDirectory } = await import('../serve/state.ts')
  const { tellFindings } = await import('./tell-findings.ts')
  // Other users must not read the files of machines.
  process.umask(0o077)
  let view: BootView | undefined
  const warn = (message: string) => {
    if (view) view.say(message)
    else process.stderr.write(`${visible(message)}\n`)
  }
  const asked = {
    images,
    state: stateDirectory(flags.state),
    dhcp: flags.dhcp,
    interface: flags.interface,
    address: flags.listen,
    ports: networkFlags.portsOf(flags),
  }
  const allowed = await toAllowed(asked.state, flags.allow ?? [])
  const refused = new Set<string>()
  const see = (boot: Boot, event: ServeEvent, at: number) => {
    if (allowed !== 'any') tellOfRefused(event, refused, warn)
    view?.see(boot, event, at)
    page?.see(boot, event)
  }
  const onError = tellErrors(warn)
  await using open = new AsyncDisposableStack()
  let serving: Serving | undefined
  const page = await servePage({
    ...{ state: asked.state, place: flags.page, names: flags.pageName ?? [], warn, onError },
    boots: () => serving?.boots() ?? [],
    operations: () => serving?.operations() ?? {},
  })
  if (page) open.defer(() => page.close())
  keepGivingBackMemory()
  serving = await serve(
    {
      ...asked,
      range,
      network,
      reservations: reserve ?? new Map(),
      told: { routers: router ?? [], nameServers: dns ?? [], domain },
      force: force ?? false,
      allowed,
      ephemeral: flags.ephemeral ?? false,
      layerSize: flags.layerSize,
      singlePort: flags.tftpSinglePort ?? false,
      shards: flags.workers ?? workersFor(availableParallelism()),
      see,
      onTold(told) {
        warn(`${told.machine}: ${saysOfTold(told)}`)
        page?.told(told)
      },
      onRollout: (told) => warn(lineOfRollout(told)),
      progress,
      onError,
    },
    signal,
  )
  for (const line of describe(serving, flags)) warn(line)
  if (page) warn(`status page ${page.url}`)
  const streams = { output: process.stdout, messages: process.stderr }
  view = showBoots(streams, serving.boots, flags.json ?? false)
  const told = tellFindings({ ...asked, signal }, serving.interface, warn)
  const isInterrupted = new Promise<void>((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
  const failure = await Promise.race([isInterrupted, serving.lost])
  await told
  view.close()
  await serving.close()
  if (failure) throw failure
  return { text: '', json: {} }
}

function describe({ interface: place, images, ports }: Serving, flags: ServeFlags): string[] {
  const dhcp = { proxy: 'proxyDHCP', full: 'DHCP', off: 'no DHCP' }[flags.dhcp]
  return [
    ...images.map(
      ({ image, platform, rootPath }) => `${image.name} (${platform}), root ${rootPath}`,
    ),
    `on ${place.address} (${place.name}): ${dhcp}, TFTP ${ports.tftp}, HTTP ${ports.http}, NFS ${ports.nfs}`,
    ...(flags.allow
      ? []
      : [
          'no machine may boot yet: allow one with --allow MAC, or all on this network with --allow any',
        ]),
  ]
}

function lineOfRollout({ machine, ...told }: RolloutTold): string {
  const says = saysOfRollout(told)
  return machine === undefined ? says : `${machine}: ${says}`
}

const repeatedMs = 60_000

/** Prints the same error at most once a minute, because it may come with each request. */
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

/** Prints once for each machine which flag allows it. */
function tellOfRefused(event: ServeEvent, told: Set<string>, warn: (line: string) => void): void {
  const who = event.mac ?? event.address
  if (event.kind === 'root' || event.reason !== notServed || who === undefined) return
  if (told.has(who) || told.size > 1000) return
  told.add(who)
  warn(`refused ${who}, which is not an allowed machine: --allow ${who} lets it boot`)
}

/** Names are resolved only now, at the start. @throws `NetimageError` `unknown-machine` */
async function toAllowed(state: string, named: readonly string[]): Promise<Allowed> {
  if (named.includes('any')) return 'any'
  return new Set(await Promise.all(named.map((each) => findMachine(state, each))))
}
