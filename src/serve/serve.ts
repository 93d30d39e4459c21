/** Runs all servers that a machine without a disk needs, from power-on to its root. */
import { asNetimageError, type NetimageError } from '../errors.ts'
import { followBoots, type Boot, type Follower } from '../boots/follow.ts'
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
import { openImages } from './images.ts'
import { createMachines, type Machines } from './machines.ts'
import { openLearnt } from './learnt.ts'
import { createNeighbours, isNeighbourOf } from './neighbours.ts'
import { machinesElsewhere } from './other-images.ts'
import { addressChanged, watchAddress } from './own-address.ts'
import type { ServePorts, ServeRequest } from './request.ts'
import { watchRoots, type RootWatch } from './root-signs.ts'
import type { ServedImage } from './served-image.ts'
import { handleKey, openState } from './state.ts'
import { doubleError, tellDoubles } from './tell-doubles.ts'

/** A machine without a connection that has not called for this long is taken to be off. */
const unusedMs = 10_000

export interface Serving {
  interface: ServedInterface
  images: readonly ServedImage[]
  ports: ServePorts
  boots: () => Boot[]
  /** Machines whose last layer is over another image: those that still run lose their root now. */
  elsewhere: readonly string[]
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
  const { images: directories, progress } = request
  const images = await openImages({ state, directories, http, signal, progress }, unfinished)
  const key = handleKey(state)
  const wiring = wire(request, place, images, unfinished)
  const ports = await startServers({ ...wiring, request, place, images, key, signal }, unfinished)

  const lost = Promise.withResolvers<NetimageError>()
  const isChosen = request.address !== undefined
  unfinished.use(
    watchAddress(place, (addresses) => {
      const error = addressChanged(place, addresses, isChosen)
      if (isChosen) onError(error)
      else lost.resolve(error)
    }),
  )

  const elsewhere = machinesElsewhere(state, images).filter(wiring.identities.isAllowed)
  const running = unfinished.move()
  return {
    interface: place,
    images,
    ports,
    boots: () => wiring.follower.boots(),
    elsewhere,
    lost: lost.promise,
    close: () => running.disposeAsync(),
  }
}

/** What the server knows of machines, and how it learns. */
interface Wiring {
  identities: Identities
  machines: Machines
  follower: Follower
  attention: Attention
  roots: RootWatch
  /** The DHCP server, once it runs: it is told which machines are real. */
  dhcp: { server?: DhcpServer | undefined }
}

function wire(
  request: ServeRequest,
  place: ServedInterface,
  images: readonly ServedImage[],
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
  const machines = createMachines({
    ...{ images, state, identities, onError },
    ephemeral: request.ephemeral ?? false,
    layerSize: request.layerSize,
    learntProcessors: learnt.processors,
    onProcessor: (mac, processor) => learnt.facts.keep('processor', mac, String(processor)),
  })
  unfinished.defer(() => machines.close())

  const partOf = (machine: string, file: string) => machines.imageOf(machine).partOf(file)
  const rootPaths = new Set(images.map(({ rootPath }) => rootPath))
  const follower = followBoots({
    partOf,
    nameOf: (ip) => identities.nameAt(ip) ?? ip,
    isServed: identities.isAllowed,
    isRoot: (path) => rootPaths.has(path.replace(/\/+$/, '') || '/'),
    earlierBoots: learnt.boots,
  })
  const dhcp: Wiring['dhcp'] = {}
  const attention = attend({
    ...{ follower, identities, machines, partOf, record: learnt.record, see: request.see },
    onBoot: (machine) => roots.boots(machine),
    onCome: (machine) => dhcp.server?.sees(machine),
    onError: (error) => onError(asNetimageError(error)),
  })
  const roots = watchRoots(machines, both(attention))
  return { identities, machines, follower, attention, roots, dhcp }
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
  images: readonly ServedImage[]
  /** The secret of file handles. */
  key: Buffer
  signal: AbortSignal | undefined
}

async function startServers(
  around: Surroundings,
  unfinished: AsyncDisposableStack,
): Promise<ServePorts> {
  const { request, place, images, key, signal, identities, machines, follower, attention } = around
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
    observe: around.roots.observe,
  })
  unfinished.defer(() => nfs.close())
  const closingUnused = setInterval(
    () => machines.closeUnused(performance.now() - unusedMs),
    unusedMs,
  )
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
      images: () =>
        images.map(({ name, toplevel, platform, rootPath }) => ({
          ...{ name, toplevel, platform, rootPath },
        })),
    },
  })
  unfinished.defer(() => http.close())
  const heard = { ...common, learn: attention.learn, report: attention.tell }
  const surroundings = { machines, identities, common: heard }
  around.dhcp.server = await startDhcp(request, place, surroundings, unfinished)
  return {
    tftp: tftp.port,
    http: http.port,
    nfs: nfs.ports.nfs,
    portMapper: nfs.ports.portMapper,
  }
}
