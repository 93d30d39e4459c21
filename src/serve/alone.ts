/** A server of one process. */
import type { DhcpServer } from '../protocols/dhcp/server.ts'
import { startHttpServer } from '../protocols/http/server.ts'
import { startNfsServer } from '../protocols/nfs/server.ts'
import { startTftpServer } from '../protocols/tftp/server.ts'
import { createBootFor } from './boot-answer.ts'
import { startDhcp } from './dhcp.ts'
import type { OpenSystems } from './open-systems.ts'
import type { Server, ServerSettings } from './server.ts'
import { isForData, wire } from './wire.ts'

/**
 * @param unfinished closes all that is opened here
 * @throws `NetimageError` if a port cannot be used
 */
export async function startAlone(
  settings: ServerSettings & { systems: OpenSystems },
  unfinished: AsyncDisposableStack,
): Promise<Server> {
  const { request, place, systems, images, learnt, handleKey } = settings
  const { ports } = request
  const { address } = place
  /** It is told which machines are real, once it runs. */
  let dhcp: DhcpServer | undefined
  const onCome = (machine: string) => dhcp?.sees(machine)
  const wiring = wire({ ...request, place, systems, images, learnt, onCome }, unfinished)
  const { identities, follower, treesOf, site, declared } = wiring
  const signal = settings.signal && { signal: settings.signal }
  const common = { ...wiring.common, address, ...signal }
  const nfs = await startNfsServer({
    ...{ ...wiring.nfs, address, handleKey, ...signal },
    ports,
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
      isFor: isForData(address, common.clientAt),
      machines: () => new Map(follower.boots().map((boot) => [boot.machine, boot])),
      images: () => systems.images(),
    },
  })
  unfinished.defer(() => http.close())
  const { gate, defaults } = wiring
  dhcp = await startDhcp(
    request,
    place,
    {
      nameOf: (machine) => site.nameOf(machine),
      declared,
      onSerial: (mac, serial) => learnt.facts.keep('serial', mac, serial),
      isAllowed: identities.isAllowed,
      bootFor: createBootFor({ gate, defaults, identities, address, onError: common.onError }),
      common,
    },
    unfinished,
  )
  return {
    ports: { tftp: tftp.port, http: http.port, ...nfs.ports },
    boots: follower.boots,
    operations: () => wiring.operations,
    // It never resolves: a defect ends this process.
    lost: new Promise(() => {}),
  }
}
