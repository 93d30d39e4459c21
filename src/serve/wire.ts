/** A server without its sockets: what it knows of its machines, and how it learns. */
import type { Follower } from '../boots/follow.ts'
import type { ClientAt, IsKnown } from '../protocols/connections.ts'
import type { TreesOf } from '../protocols/boot-files.ts'
import type { Report } from '../protocols/event.ts'
import type { ServedInterface } from '../protocols/interfaces.ts'
import type { ProcedureCounts } from '../protocols/nfs/procedure-counts.ts'
import type { NfsServiceOptions } from '../protocols/nfs/service.ts'
import { createOnInterface, type Hears } from '../protocols/on-interface.ts'
import type { Sign } from '../site/life/attempts.ts'
import { toldBy } from '../site/log/entry.ts'
import { openSite, type Site } from '../site/site.ts'
import { answerReadiness } from './answer-readiness.ts'
import { attend } from './attend.ts'
import { watchDeclarations, type Declared } from './declared.ts'
import { createDefaults, type DefaultImage, type Defaults } from './defaults.ts'
import type { Gate } from './gate.ts'
import { createFindGone } from './gone-systems.ts'
import { createIdentities, type Identities } from './identity.ts'
import type { Learnt } from './learnt.ts'
import { createMachines } from './machines.ts'
import { createNeighbours, isNeighbourOf } from './neighbours.ts'
import type { OpenSystems } from './open-systems.ts'
import { createPreparing } from './prepare-layer.ts'
import { startPublishing } from './publishing.ts'
import type { ServeRequest } from './request.ts'
import { onlyOwn } from './only-own.ts'
import { createSiteFiles } from './site-files.ts'
import { createStrangerLayers } from './stranger-layers.ts'
import { watchRoots, type RootWatch } from './root-signs.ts'
import { doubleError, tellDoubles } from './tell-doubles.ts'
import { createTryPorts } from './try-ports.ts'
import { wireGate } from './wire-gate.ts'

/** A machine without a connection that has not called for this long is taken to be off. */
const unusedMs = 10_000
/** How often settle time and deadline are checked. Milliseconds. */
const tickMs = 2000

export interface WireRequest extends Pick<
  ServeRequest,
  'state' | 'allowed' | 'ephemeral' | 'layerSize' | 'see' | 'onTold' | 'onError'
> {
  place: ServedInterface
  systems: OpenSystems
  images: readonly DefaultImage[]
  learnt: Learnt
  /** Whether this process serves the machine. Default: it serves all. */
  owns?: (machine: string) => boolean
  /** Called when a machine has done something that takes more than a forged address. */
  onCome: (machine: string) => void
}

export interface Wiring {
  site: Pick<Site, 'nameOf'>
  declared: Declared
  identities: Identities
  defaults: Defaults
  gate: Gate
  follower: Pick<Follower, 'boots'>
  /** For all protocols. */
  common: Common
  treesOf: TreesOf
  /** The operations of NFS until now. */
  operations: ProcedureCounts
  /** For NFS, without the secret of file handles. */
  nfs: Omit<NfsServiceOptions, 'handleKey'>
}

interface Common {
  onError: ServeRequest['onError']
  clientAt: ClientAt
  isKnown: IsKnown
  hears: Hears
  report: Report
}

/** @param unfinished closes all that is opened here */
export function wire(request: WireRequest, unfinished: AsyncDisposableStack): Wiring {
  const { state, place, systems, images, learnt, ephemeral = false, onTold, onError } = request
  const { owns = () => true } = request
  const identities = createIdentities({
    allowed: request.allowed,
    neighbours: createNeighbours(place.name),
    isNeighbour: isNeighbourOf(place),
    learntAddresses: learnt.addresses,
    onAddress: (ip, mac) => learnt.facts.keep('address', ip, mac),
    onDouble: tellDoubles((double) => onError(doubleError(double))),
    declared: {
      machineOf: (mac) => declared.machineOf(mac),
      cardsOf: (machine) => declared.cardsOf(machine),
    },
  })
  const defaults = createDefaults({
    images,
    learntProcessors: learnt.processors,
    mayForget: (mac) => !gate.hasAttempt(mac),
    onProcessor: (mac, processor) => learnt.facts.keep('processor', mac, String(processor)),
  })
  const tryPorts = createTryPorts({
    addressOf: (machine) => identities.addressOf(machine),
    onAnswers: (machine, attempt) => onSign(machine, { kind: 'answers', attempt }),
  })
  const onPortsToTry = tryPorts.begin
  const site = openSite({ state, at: Date.now(), owns, onTold, onPortsToTry, onError })
  unfinished.defer(() => site.close(Date.now()))
  unfinished.defer(() => tryPorts.close())
  const declared = watchDeclarations((onBroken) => site.declarations(onBroken), onError, unfinished)
  const ticking = setInterval(() => site.tick(Date.now()), tickMs)
  unfinished.defer(() => clearInterval(ticking))

  const { gate: gateOfAll, follower } = wireGate({
    ...{ site, systems, defaults, identities, boots: learnt.boots, onError },
    findGone: createFindGone({
      ...{ state, systems, onError, ephemeral },
      whenClosed: (machine) => machines.whenClosed(machine),
    }),
    onBegin: (machine) => machines.begins(machine),
  })
  const gate = onlyOwn(gateOfAll, owns)
  const machines = createMachines({
    ...{ gate, state, identities, onError, ephemeral },
    layerSize: request.layerSize,
    mayHaveLayer: createStrangerLayers({ state, isKnown, onError }),
    takenElsewhere: (machine) => publishing.bytesOf(machine),
    ownerOf: declared.ownerOf,
    onSerial: (mac, serial) => learnt.facts.keep('serial', mac, serial),
    prepareLayer: createPreparing({
      ...{ state, site, onError },
      onTold(told) {
        onTold(told)
        void site.note(toldBy(told, Date.now()))
      },
    }),
    siteFilesOf: createSiteFiles({ state, site, onError }),
    onWait: (machine, kind) => onSign(machine, { kind }),
    onOpen(machine) {
      roots.opens(machine)
      publishing.notice(machine)
    },
  })
  unfinished.defer(() => machines.close())
  const onSign = (machine: string, sign: Sign, at = Date.now()) => {
    // Others are not remembered: their hardware addresses may be invented.
    if (gate.hasAttempt(machine)) site.sign(machine, sign, at)
  }
  const report = attend({
    ...{ follower, identities, onSign, record: learnt.record, see: request.see },
    onBoot: (machine) => roots.boots(machine),
    onCome(boot, event) {
      request.onCome(boot.machine)
      gate.comes(boot, event)
    },
  })
  const roots: RootWatch = watchRoots({ machines, onSign, report })
  const publishing = startPublishing({ state, site, systems, machines, owns, ephemeral, onError })
  unfinished.defer(() => publishing.close())
  const readiness = answerReadiness({ site, machines, onError })
  unfinished.defer(() => readiness.close())
  const defaultSystems = images.map(({ open }) => open)
  const closingUnused = setInterval(() => {
    machines.closeUnused(performance.now() - unusedMs)
    systems.closeUnused([...defaultSystems, ...machines.systems()])
  }, unusedMs)
  unfinished.defer(() => clearInterval(closingUnused))

  const operations: ProcedureCounts = {}
  const hears = createOnInterface(place)
  /** A person has named it or chosen what it boots, or it was up before and stayed up. */
  function isKnown(machine: string): boolean {
    if (identities.isNamed(machine)) return true
    try {
      const { isChosen, lastGood } = site.lifeOf(machine)
      return isChosen || lastGood !== undefined
    } catch {
      // The gate tells of the broken row.
      return false
    }
  }
  const common = { onError, report, hears, clientAt: clientsOf(identities), isKnown }
  return {
    ...{ site, declared, identities, defaults, gate, follower, operations, common },
    treesOf: machines.treesOf,
    nfs: {
      ...common,
      machineOf: machines.nfsMachineOf,
      onLeave: identities.leaves,
      observe(seen) {
        operations[seen.procedure] = (operations[seen.procedure] ?? 0) + 1
        roots.observe(seen)
        publishing.observe(seen)
        readiness.observe(seen)
      },
    },
  }
}

export function clientsOf({ nameAt, isAllowed }: Pick<Identities, 'nameAt' | 'isAllowed'>) {
  return (ip: string): ReturnType<ClientAt> => {
    const name = nameAt(ip)
    // If the name is not known yet, the machine may be one that is served.
    const isServed = name === undefined || isAllowed(name) || isAllowed(ip)
    return { name: name ?? ip, isServed }
  }
}

/** Whether the client with an IP address may read the data below `/api/`. */
export function isForData(own: string, clientAt: ClientAt) {
  return (ip: string): boolean => ip === own || ip.startsWith('127.') || clientAt(ip).isServed
}
