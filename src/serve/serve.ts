/** Runs all servers that a machine without a disk needs, from power-on to its root. */
import { join } from 'node:path'

import { NetimageError } from '../errors.ts'
import { isInNetwork, parseNetwork, parseRange, type Network } from '../ipv4.ts'
import { followBoots, type Boot } from '../boots/follow.ts'
import { openBootRecord } from '../boots/record.ts'
import type { NetworkFacts } from '../protocols/dhcp/address-settings.ts'
import { bootAnswer } from './boot-answer.ts'
import { startDhcpServer, type DhcpServer } from '../protocols/dhcp/server.ts'
import type { ServeEvent } from '../protocols/event.ts'
import { startHttpServer } from '../protocols/http/server.ts'
import { findInterface, ownAddresses, type ServedInterface } from '../protocols/interfaces.ts'
import { attend } from './attend.ts'
import { createIdentities, type Allowed, type Identities } from './identity.ts'
import { createMachines, type Machines } from './machines.ts'
import { createNeighbours } from './neighbours.ts'
import { startNfsServer } from '../protocols/nfs/server.ts'
import { createOnInterface } from '../protocols/on-interface.ts'
import { machinesElsewhere } from './other-images.ts'
import { addressChanged, watchAddress } from './own-address.ts'
import { watchRoots } from './root-signs.ts'
import { openServedImage, type ServedImage } from './served-image.ts'
import { handleKey, openState } from './state.ts'
import { tellDoubles, type Double } from './tell-doubles.ts'
import { startTftpServer } from '../protocols/tftp/server.ts'

export interface ServeRequest {
  /** Directories that `build` made. A machine gets the first image for its processor. */
  images: readonly string[]
  /** The state directory. */
  state: string
  /**
   * - `proxy`: beside a DHCP server that gives the addresses
   * - `full`: as the only DHCP server of the network
   * - `off`: another server tells the machines what to boot
   */
  dhcp: 'proxy' | 'full' | 'off'
  /** Default: the only interface that there is. */
  interface?: string | undefined
  address?: string | undefined
  /** For `full`: as in `10.0.0.0/24`; default: the network of the interface. */
  network?: string | undefined
  /** For `full`: as in `10.0.0.100-10.0.0.199`. */
  range?: string | undefined
  /** For `full`: IPv4 addresses by hardware address. */
  reservations?: ReadonlyMap<string, string>
  /** For `full`: routers, name servers and the domain that machines are told. */
  told?: NetworkFacts
  /** For `full`: start even if another DHCP server answers. */
  force?: boolean
  allowed: Allowed
  /** Whether the layer of a machine is reset at each boot. */
  ephemeral?: boolean
  /** The most bytes that a machine's layer may take on the disk. Default: no limit. */
  layerSize?: number | undefined
  ports: ServePorts
  /** Send all TFTP transfers from one port, for NAT and firewalls. */
  singlePort?: boolean
  /** Called for each event, with the boot that it belongs to. */
  see: (boot: Boot, event: ServeEvent, at: number) => void
  /** Called for errors that are not caused by a machine. */
  onError: (error: NetimageError) => void
}

/** A machine without a connection that has not called for this long is taken to be off. */
const unusedMs = 10_000

export interface ServePorts {
  tftp: number
  http: number
  nfs: number
  /** Undefined: no port mapper. Clients must then be told the port of NFS. */
  portMapper: number | undefined
}

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
  const { state, ports, onError } = request
  const place = findInterface(request)
  const { address } = place
  const http = `http://${address}${ports.http === 80 ? '' : `:${ports.http}`}/`
  await using unfinished = new AsyncDisposableStack()
  const images: ServedImage[] = []
  for (const image of request.images) {
    const opened = await openServedImage(image, http)
    unfinished.defer(() => opened.release())
    images.push(opened)
  }
  refuseSameRoots(images)

  openState(state)
  const key = handleKey(state)
  const record = openBootRecord(state, onError)
  unfinished.defer(() => record.close())
  const identities = createIdentities({
    allowed: request.allowed,
    neighbours: createNeighbours(place.name),
    isNeighbour: isNeighbourOf(place),
    onDouble: tellDoubles((double) => onError(doubleName(double))),
  })
  const machines = createMachines({
    ...{ images, state, identities, onError },
    ephemeral: request.ephemeral ?? false,
    layerSize: request.layerSize,
  })
  unfinished.defer(() => machines.close())

  const partOf = (machine: string, file: string) => machines.imageOf(machine).partOf(file)
  const rootPaths = new Set(images.map(({ rootPath }) => rootPath))
  const follower = followBoots({
    partOf,
    nameOf: (ip) => identities.nameAt(ip) ?? ip,
    isServed: identities.isAllowed,
    isRoot: (path) => rootPaths.has(path.replace(/\/+$/, '') || '/'),
  })
  let dhcp: DhcpServer | undefined
  const { learn, tell } = attend({
    ...{ follower, identities, machines, partOf, record, see: request.see },
    onBoot: (machine) => roots.boots(machine),
    onCome: (machine) => dhcp?.sees(machine),
    onError: (error) => onError(defect(error)),
  })
  const report = (event: ServeEvent) => {
    learn(event)
    tell(event)
  }
  const roots = watchRoots(machines, report)
  const hears = createOnInterface(place)
  const clientAt = (ip: string) => {
    const name = identities.nameAt(ip)
    // If the name is not known yet, the machine may be one that is served.
    const isServed = name === undefined || identities.isAllowed(name) || identities.isAllowed(ip)
    return { name: name ?? ip, isServed }
  }
  const common = { address, report, onError, hears, clientAt, ...(signal && { signal }) }
  const nfs = await startNfsServer({
    ...common,
    ports: {
      nfs: ports.nfs,
      ...(ports.portMapper !== undefined && { portMapper: ports.portMapper }),
    },
    machineOf: machines.nfsMachineOf,
    onLeave: identities.leaves,
    handleKey: key,
    observe: roots.observe,
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
  const httpServer = await startHttpServer({
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
  unfinished.defer(() => httpServer.close())
  const heard = { ...common, learn, report: tell }
  dhcp = await startDhcp(request, place, { machines, identities, common: heard }, unfinished)

  const lost = Promise.withResolvers<NetimageError>()
  const isChosen = request.address !== undefined
  unfinished.use(
    watchAddress(place, (addresses) => {
      const error = addressChanged(place, addresses, isChosen)
      if (isChosen) onError(error)
      else lost.resolve(error)
    }),
  )

  const elsewhere = machinesElsewhere(state, images).filter(identities.isAllowed)
  const running = unfinished.move()
  return {
    interface: place,
    images,
    ports: {
      tftp: tftp.port,
      http: httpServer.port,
      nfs: nfs.ports.nfs,
      portMapper: nfs.ports.portMapper,
    },
    boots: () => follower.boots(),
    elsewhere,
    lost: lost.promise,
    close: () => running.disposeAsync(),
  }
}

interface DhcpSurroundings {
  machines: Machines
  identities: Identities
  common: Pick<
    Parameters<typeof startDhcpServer>[0],
    'address' | 'learn' | 'report' | 'onError' | 'signal'
  >
}

/** To be called last: a machine that DHCP answers must find all other servers running. */
async function startDhcp(
  request: ServeRequest,
  { name, address, network }: ServedInterface,
  { machines, identities, common }: DhcpSurroundings,
  unfinished: AsyncDisposableStack,
): Promise<DhcpServer | undefined> {
  if (request.dhcp === 'off') return undefined
  const shared = {
    ...common,
    interface: name,
    allow: ({ mac }: { mac: string }) => identities.isAllowed(mac),
    bootFor(machine: Parameters<typeof bootAnswer>[0]) {
      const [architecture] = machine.architectures
      const isPi = machine.bootClient === 'raspberry-pi'
      const processor = isPi ? 'raspberry-pi' : architecture
      if (processor !== undefined) machines.isOf(machine.mac, processor)
      return bootAnswer(machine, machines.imageOf(machine.mac).loaders, address)
    },
  }
  const server = await startDhcpServer(
    request.dhcp === 'proxy'
      ? { ...shared, mode: 'proxy' }
      : {
          ...shared,
          mode: 'full',
          network: networkOf(request, network),
          range: parseRange(rangeOf(request)),
          reservations: request.reservations ?? new Map(),
          told: request.told ?? { routers: [], nameServers: [] },
          leasesFile: join(request.state, 'leases.sqlite'),
          force: request.force ?? false,
        },
  )
  unfinished.defer(() => server.close())
  return server
}

function networkOf({ network }: ServeRequest, own: Network | undefined): Network {
  if (network !== undefined) return parseNetwork(network)
  if (own) return own
  throw new NetimageError(
    'bad-usage',
    'the network of the interface is not known while its cable is unplugged',
    {
      hint: 'Name the network with --network, as in 10.0.0.0/24.',
    },
  )
}

function rangeOf({ range }: ServeRequest): string {
  if (range !== undefined) return range
  throw new NetimageError('bad-usage', '--dhcp full needs the addresses that it may give', {
    hint: 'Name the addresses with --range, as in 10.0.0.100-10.0.0.199.',
  })
}

/** Whether an address is of another machine on the network that is served. */
function isNeighbourOf({ address: own, network: known }: ServedInterface) {
  let network = known
  return (address: string): boolean => {
    // The network is known once the cable is plugged in.
    network ??= ownAddresses().find((one) => one.address === own)?.network
    return address !== own && network !== undefined && isInNetwork(address, network)
  }
}

function doubleName({ name, first, second }: Double) {
  return new NetimageError(
    'in-use',
    `${second} has the same hardware address as ${first} (${name}), which uses the root of that address: ${second} must wait`,
    {
      hint: `If these are two machines (clones, or machines behind a wireless bridge that shows its own address), give each its own hardware address. Or allow both by their IP addresses instead: --allow ${first} --allow ${second}. If this is one machine with a new IP address, it goes on when its old connection has ended.`,
    },
  )
}

/** Two images for one platform are refused: a machine could not choose the root that it mounts. */
function refuseSameRoots(images: readonly ServedImage[]): void {
  for (const [index, image] of images.entries()) {
    const other = images
      .slice(0, index)
      .find(
        ({ platform, directory }) => platform === image.platform && directory !== image.directory,
      )
    if (!other) continue
    throw new NetimageError(
      'bad-option',
      `${other.name} and ${image.name} are both for ${image.platform}`,
      {
        hint: 'Serve only one image for each kind of processor. Serve the other from another server.',
      },
    )
  }
}

function defect(error: unknown): NetimageError {
  return error instanceof NetimageError
    ? error
    : new NetimageError('internal', String(error), { cause: error })
}
