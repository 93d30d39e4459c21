/** Runs all servers that a machine without a disk needs, from power-on to its root. */
import type { NetimageError } from '../errors.ts'
import type { Boot } from '../boots/follow.ts'
import type { DhcpServer } from '../protocols/dhcp/server.ts'
import { startHttpServer } from '../protocols/http/server.ts'
import { findInterface, type ServedInterface } from '../protocols/interfaces.ts'
import { startNfsServer } from '../protocols/nfs/server.ts'
import { startTftpServer } from '../protocols/tftp/server.ts'
import { createBootFor } from './boot-answer.ts'
import { startDhcp } from './dhcp.ts'
import { addDefaults } from './images.ts'
import type { DefaultImage } from './defaults.ts'
import { createOpenSystems, type OpenSystems } from './open-systems.ts'
import { openLearnt } from './learnt.ts'
import { addressChanged, watchAddress } from './own-address.ts'
import type { ServePorts, ServeRequest } from './request.ts'
import { handleKey, lockState, openState } from './state.ts'
import { wire, type Wiring } from './wire.ts'

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
  const learnt = openLearnt(state, onError, unfinished)
  const dhcp: Surroundings['dhcp'] = {}
  const onCome = (machine: string) => dhcp.server?.sees(machine)
  const wiring = wire({ ...request, place, systems, images, learnt, onCome }, unfinished)
  const ports = await startServers(
    { ...wiring, request, place, systems, key, signal, dhcp },
    unfinished,
  )

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

interface Surroundings extends Wiring {
  request: ServeRequest
  place: ServedInterface
  systems: Pick<OpenSystems, 'images'>
  /** The secret of file handles. */
  key: Buffer
  signal: AbortSignal | undefined
  /** The DHCP server, once it runs: it is told which machines are real. */
  dhcp: { server?: DhcpServer | undefined }
}

async function startServers(
  around: Surroundings,
  unfinished: AsyncDisposableStack,
): Promise<ServePorts> {
  const { request, place, key, identities, follower, attention, treesOf } = around
  const { ports } = request
  const { address } = place
  const signal = around.signal && { signal: around.signal }
  const common = { ...around.common, address, ...signal }
  const nfs = await startNfsServer({
    ...{ ...around.nfs, address, ...signal },
    ports: {
      nfs: ports.nfs,
      ...(ports.portMapper !== undefined && { portMapper: ports.portMapper }),
    },
    handleKey: key,
  })
  unfinished.defer(() => nfs.close())
  const tftp = await startTftpServer({
    ...{ ...common, treesOf, port: ports.tftp },
    singlePort: request.singlePort ?? false,
  })
  unfinished.defer(() => tftp.close())
  const http = await startHttpServer({
    ...{ ...common, treesOf, port: ports.http },
    knowledge: {
      isFor: (ip) => ip === address || ip.startsWith('127.') || common.clientAt(ip).isServed,
      machines: () => new Map(follower.boots().map((boot) => [boot.machine, boot])),
      images: () => around.systems.images(),
    },
  })
  unfinished.defer(() => http.close())
  const { site, gate, defaults } = around
  around.dhcp.server = await startDhcp(
    request,
    place,
    {
      hostNameOf: (mac) => site.nameOf(mac),
      isAllowed: identities.isAllowed,
      bootFor: createBootFor({ gate, defaults, identities, address, onError: common.onError }),
      common: { ...common, learn: attention.learn, report: attention.tell },
    },
    unfinished,
  )
  return {
    tftp: tftp.port,
    http: http.port,
    nfs: nfs.ports.nfs,
    portMapper: nfs.ports.portMapper,
  }
}
