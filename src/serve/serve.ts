/** All servers together: what a machine without a disk needs from power-on to its root. */
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
  /** Directories that `build` made. A machine has the first that fits its processor. */
  images: readonly string[]
  /** What is kept of the machines. */
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
  /** For `full`: as in `10.0.0.0/24`; default: that of the interface. */
  network?: string | undefined
  /** For `full`: as in `10.0.0.100-10.0.0.199`. */
  range?: string | undefined
  /** For `full`: IPv4 addresses by hardware address. */
  reservations?: ReadonlyMap<string, string>
  /** For `full`: what machines are told of the network. */
  told?: NetworkFacts
  /** For `full`: start even where another DHCP server answers. */
  force?: boolean
  allowed: Allowed
  /** Whether a machine begins each boot without what it wrote before. */
  ephemeral?: boolean
  ports: ServePorts
  /** All TFTP transfers from one port, for NAT and firewalls. */
  singlePort?: boolean
  /** Told of each event, and of the boot that it is part of. */
  see: (boot: Boot, event: ServeEvent, at: number) => void
  /** Told of what is no machine's fault. */
  onError: (error: NetimageError) => void
}

/** After so long without a call and a connection, a machine is taken to be off. */
const unusedMs = 10_000

export interface ServePorts {
  tftp: number
  http: number
  nfs: number
  /** Undefined: none. Clients must then be told the port of NFS. */
  portMapper: number | undefined
}

export interface Serving {
  interface: ServedInterface
  images: readonly ServedImage[]
  ports: ServePorts
  boots: () => Boot[]
  /** Machines that lose their root now if they still run: they wrote over another image last. */
  elsewhere: readonly string[]
  /** Resolves if nobody can be served any more, as the address that is served on is another now. */
  lost: Promise<NetimageError>
  close: () => Promise<void>
}

/** @throws `NetimageError` of whatever cannot be read or listened on */
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
    // If nobody can tell yet, it may be one that is.
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

/** Last of all: a machine that is told where to boot from finds everything there. */
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
  throw new NetimageError('bad-usage', 'the network is not known while nothing is plugged in', {
    hint: 'Name it with --network, as in 10.0.0.0/24.',
  })
}

function rangeOf({ range }: ServeRequest): string {
  if (range !== undefined) return range
  throw new NetimageError('bad-usage', '--dhcp full needs the addresses that it may give', {
    hint: 'Name them with --range, as in 10.0.0.100-10.0.0.199.',
  })
}

/** Whether an address is of another machine on the network that is served. */
function isNeighbourOf({ address: own, network: known }: ServedInterface) {
  let network = known
  return (address: string): boolean => {
    // It is known once something is plugged in.
    network ??= ownAddresses().find((one) => one.address === own)?.network
    return address !== own && network !== undefined && isInNetwork(address, network)
  }
}

function doubleName({ name, first, second }: Double) {
  return new NetimageError(
    'in-use',
    `${second} has the hardware address ${name} as well, from which ${first} has its root: ${second} must wait`,
    {
      hint: `If these are two machines (clones, or machines behind a wireless bridge that shows its own address), give each a hardware address of its own, or name both by their IP addresses in place of it: --allow ${first} --allow ${second}. If it is one machine with a new address, it goes on when its old connection has ended.`,
    },
  )
}

/** A machine could not tell which of them it mounts. */
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
        hint: 'Serve one image for each kind of processor; more of them from a server of their own.',
      },
    )
  }
}

function defect(error: unknown): NetimageError {
  return error instanceof NetimageError
    ? error
    : new NetimageError('internal', String(error), { cause: error })
}
