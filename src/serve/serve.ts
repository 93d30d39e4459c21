/** Runs all servers that a machine without a disk needs, from power-on to its root. */
import type { NetimageError } from '../errors.ts'
import type { Boot, Follower } from '../boots/follow.ts'
import type { DhcpServer } from '../protocols/dhcp/server.ts'
import type { ServeEvent } from '../protocols/event.ts'
import { startHttpServer } from '../protocols/http/server.ts'
import { findInterface, type ServedInterface } from '../protocols/interfaces.ts'
import { startNfsServer } from '../protocols/nfs/server.ts'
import { createOnInterface } from '../protocols/on-interface.ts'
import { startTftpServer } from '../protocols/tftp/server.ts'
import { attend, type Attention } from './attend.ts'
import { startDhcp } from './dhcp.ts'
import { createIdentities, type Identities } from './identity.ts'
import { addDefaults } from './images.ts'
import { createDefaults, type DefaultImage, type Defaults } from './defaults.ts'
import type { Gate } from './gate.ts'
import { createFindGone } from './gone-systems.ts'
import { createOpenSystems, type OpenSystems } from './open-systems.ts'
import { createMachines, type Machines } from './machines.ts'
import { openLearnt } from './learnt.ts'
import { createNeighbours, isNeighbourOf } from './neighbours.ts'
import { addressChanged, watchAddress } from './own-address.ts'
import type { Publishing } from '../site/publish/publishing.ts'
import { createPreparing } from './prepare-layer.ts'
import { startPublishing } from './publishing.ts'
import type { ServePorts, ServeRequest } from './request.ts'
import { watchRoots, type RootWatch } from './root-signs.ts'
import type { Sign } from '../site/life/attempts.ts'
import { openSite, type Site } from '../site/site.ts'
import { handleKey, lockState, openState } from './state.ts'
import { doubleError, tellDoubles } from './tell-doubles.ts'
import { wireGate } from './wire-gate.ts'

/** A machine without a connection that has not called for this long is taken to be off. */
const unusedMs = 10_000
/** How often settle time and deadline are checked. Milliseconds. */
const tickMs = 2000

export interface Serving {
  interface: ServedInterface
  /** The images that machines boot if nobody chose anything for them. */
  images: readonly DefaultImage['open'][]
  ports: ServePorts
  boots: () => Boot[]
  /** Resolves if the interface has lost the address, so that no machine can be served any more. */
  lost: Promise<NetimageError>
  close: () => Promise<void>
}

/** @throws `NetimageError` if an image or the state cannot be read, or a port cannot be used */
export async function serve(request: ServeRequest, signal?: AbortSignal): Promise<Serving> {
  const { state, onError } = request
  const place = findInterface(request)
  const { address } = place
  const http = `http://${address}${request.ports.http === 80 ? '' : `:${request.ports.http}`}/`
  await using unfinished = new AsyncDisposableStack()
  openState(state)
  const lock = lockState(state)
  unfinished.defer(() => lock.release())
  const key = handleKey(state)
  const systems = createOpenSystems({ state, http, onError })
  unfinished.defer(() => systems.close())
  const images = await addDefaults(request, systems, signal)
  const wiring = wire(request, place, { systems, images }, unfinished)
  const ports = await startServers({ ...wiring, request, place, key, signal }, unfinished)

  const lost = Promise.withResolvers<NetimageError>()
  const isChosen = request.address !== undefined
  unfinished.use(
    watchAddress(place, (addresses) => {
      const error = addressChanged(place, addresses, isChosen)
      if (isChosen) onError(error)
      else lost.resolve(error)
    }),
  )

  const running = unfinished.move()
  return {
    interface: place,
    images: images.map(({ open }) => open),
    ports,
    boots: () => wiring.follower.boots(),
    lost: lost.promise,
    close: () => running.disposeAsync(),
  }
}

/** What the server knows of machines, and how it learns. */
interface Wiring {
  site: Site
  identities: Identities
  defaults: Defaults
  systems: OpenSystems
  gate: Gate
  machines: Machines
  follower: Follower
  attention: Attention
  roots: RootWatch
  publishing: Publishing
  closeUnusedImages: () => void
  /** The DHCP server, once it runs: it is told which machines are real. */
  dhcp: { server?: DhcpServer | undefined }
}

function wire(
  request: ServeRequest,
  place: ServedInterface,
  { systems, images }: { systems: OpenSystems; images: readonly DefaultImage[] },
  unfinished: AsyncDisposableStack,
): Wiring {
  const { state, onError } = request
  const learnt = openLearnt(state, onError, unfinished)
  const identities = createIdentities({
    allowed: request.allowed,
    neighbours: createNeighbours(place.name),
    isNeighbour: isNeighbourOf(place),
    learntAddresses: learnt.addresses,
    onAddress: (ip, mac) => learnt.facts.keep('address', ip, mac),
    onDouble: tellDoubles((double) => onError(doubleError(double))),
  })
  const defaults = createDefaults({
    images,
    learntProcessors: learnt.processors,
    mayForget: (mac) => !gate.hasAttempt(mac),
    onProcessor: (mac, processor) => learnt.facts.keep('processor', mac, String(processor)),
  })
  const site = openSite({ state, at: Date.now(), onTold: request.onTold, onError })
  unfinished.defer(() => site.close(Date.now()))
  const ticking = setInterval(() => site.tick(Date.now()), tickMs)
  unfinished.defer(() => clearInterval(ticking))

  const { gate, follower } = wireGate({
    ...{ site, systems, defaults, identities, boots: learnt.boots, onError },
    findGone: createFindGone({
      ...{ state, systems, onError, ephemeral: request.ephemeral ?? false },
      whenClosed: (machine) => machines.whenClosed(machine),
    }),
    onBegin: (machine) => machines.begins(machine),
  })
  const machines = createMachines({
    ...{ gate, state, identities, onError },
    ephemeral: request.ephemeral ?? false,
    layerSize: request.layerSize,
    takenElsewhere: (machine) => publishing.bytesOf(machine),
    prepareLayer: createPreparing({ state, site, onTold: request.onTold, onError }),
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
  const dhcp: Wiring['dhcp'] = {}
  const attention = attend({
    ...{ follower, identities, onSign, record: learnt.record, see: request.see },
    onBoot: (machine) => roots.boots(machine),
    onCome(boot, event) {
      dhcp.server?.sees(boot.machine)
      gate.comes(boot, event)
    },
  })
  const roots: RootWatch = watchRoots({ machines, onSign, report: both(attention) })
  const publishing = startPublishing({
    ...{ state, site, systems, machines, onError },
    ephemeral: request.ephemeral ?? false,
  })
  unfinished.defer(() => publishing.close())
  const defaultSystems = images.map(({ open }) => open)
  return {
    closeUnusedImages: () => systems.closeUnused([...defaultSystems, ...machines.systems()]),
    site,
    identities,
    defaults,
    systems,
    gate,
    machines,
    follower,
    attention,
    roots,
    publishing,
    dhcp,
  }
}

function both({ learn, tell }: Attention) {
  return (event: ServeEvent) => {
    learn(event)
    tell(event)
  }
}

interface Surroundings extends Wiring {
  request: ServeRequest
  place: ServedInterface
  /** The secret of file handles. */
  key: Buffer
  signal: AbortSignal | undefined
}

async function startServers(
  around: Surroundings,
  unfinished: AsyncDisposableStack,
): Promise<ServePorts> {
  const { request, place, key, signal, identities, machines, follower, attention } = around
  const { ports, onError } = request
  const { address } = place
  const clientAt = (ip: string) => {
    const name = identities.nameAt(ip)
    // If the name is not known yet, the machine may be one that is served.
    const isServed = name === undefined || identities.isAllowed(name) || identities.isAllowed(ip)
    return { name: name ?? ip, isServed }
  }
  const common = {
    ...{ address, onError, clientAt, report: both(attention), hears: createOnInterface(place) },
    ...(signal && { signal }),
  }
  const nfs = await startNfsServer({
    ...common,
    ports: {
      nfs: ports.nfs,
      ...(ports.portMapper !== undefined && { portMapper: ports.portMapper }),
    },
    machineOf: machines.nfsMachineOf,
    onLeave: identities.leaves,
    handleKey: key,
    observe(seen) {
      around.roots.observe(seen)
      around.publishing.observe(seen)
    },
  })
  unfinished.defer(() => nfs.close())
  const closingUnused = setInterval(() => {
    machines.closeUnused(performance.now() - unusedMs)
    around.closeUnusedImages()
  }, unusedMs)
  unfinished.defer(() => clearInterval(closingUnused))
  const tftp = await startTftpServer({
    ...common,
    port: ports.tftp,
    treesOf: machines.treesOf,
    singlePort: request.singlePort ?? false,
  })
  unfinished.defer(() => tftp.close())
  const http = await startHttpServer({
    ...common,
    port: ports.http,
    treesOf: machines.treesOf,
    knowledge: {
      isFor: (ip) => ip === address || ip.startsWith('127.') || clientAt(ip).isServed,
      machines: () => new Map(follower.boots().map((boot) => [boot.machine, boot])),
      images: () => around.systems.images(),
    },
  })
  unfinished.defer(() => http.close())
  const heard = { ...common, learn: attention.learn, report: attention.tell }
  const { site, gate, defaults } = around
  const hostNameOf = (mac: string) => site.nameOf(mac)
  const surroundings = { gate, defaults, hostNameOf, identities, common: heard }
  around.dhcp.server = await startDhcp(request, place, surroundings, unfinished)
  return {
    tftp: tftp.port,
    http: http.port,
    nfs: nfs.ports.nfs,
    portMapper: nfs.ports.portMapper,
  }
}
