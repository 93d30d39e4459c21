/**
 * The front of a server whose machines are served by several processes, its shards. It has DHCP, the
 * port mapper, and all sockets that listen; it finds the name of a machine that comes, and gives the
 * machine to the shard that owns it.
 */
import { addAbortListener } from 'node:events'
import type { Socket } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'

import { asNetimageError, type NetimageError } from '../../errors.ts'
import { plainAddress } from '../../protocols/connections.ts'
import type { DhcpServer } from '../../protocols/dhcp/server.ts'
import type { Report, ServeEvent } from '../../protocols/event.ts'
import { listenNfs } from '../../protocols/nfs/server.ts'
import { createOnInterface } from '../../protocols/on-interface.ts'
import { listenTcp } from '../../protocols/tcp-listener.ts'
import { isReadRequest } from '../../protocols/tftp/packet.ts'
import { createTftpService } from '../../protocols/tftp/service.ts'
import type { Peer } from '../../protocols/tftp/sessions.ts'
import { listenTftp } from '../../protocols/tftp/socket.ts'
import { remember } from '../../remember.ts'
import { openSiteDatabase } from '../../site/database.ts'
import { watchDeclarations } from '../declared.ts'
import { startDhcp } from '../dhcp.ts'
import { createIdentities, learnGiven, notKnown } from '../identity.ts'
import { createNeighbours, isNeighbourOf } from '../neighbours.ts'
import type { Server, ServerSettings } from '../server.ts'
import { clientsOf } from '../wire.ts'
import { createDoor } from './door.ts'
import { startShards } from './shards.ts'

/**
 * @param unfinished closes all that is opened here
 * @throws `NetimageError` if a shard cannot begin, or a port cannot be used
 */
export async function startFront(
  { request, place, http, images, learnt, handleKey, signal }: ServerSettings,
  unfinished: AsyncDisposableStack,
): Promise<Server> {
  const { state, allowed, ports, see, onTold, onError } = request
  const { address } = place
  /** What shards are told of the machines that have an IP address. */
  const addresses = new Map(learnt.addresses)
  const site = openSiteDatabase(state)
  unfinished.defer(() => site.close())
  const declared = watchDeclarations(site.read.declarations, onError, unfinished)
  const identities = createIdentities({
    ...{ allowed, neighbours: createNeighbours(place.name), isNeighbour: isNeighbourOf(place) },
    learntAddresses: learnt.addresses,
    onAddress(ip, mac) {
      remember(addresses, ip, mac)
      learnt.facts.keep('address', ip, mac)
    },
    // Shards know who holds a name.
    onDouble: () => {},
    declared,
  })
  let dhcp: DhcpServer | undefined
  const lost = Promise.withResolvers<NetimageError>()
  const shards = startShards({
    ...{ count: request.shards ?? 0, learnt, see, onTold, onError },
    start: {
      ...{ state, allowed, ephemeral: request.ephemeral ?? false, layerSize: request.layerSize },
      ...{ place, http, handleKey, addresses },
      defaults: images.map(({ candidate, open }) => ({ id: open.image.id, candidate })),
    },
    isAllowed: identities.isAllowed,
    onCome: (machine) => dhcp?.sees(machine),
    onGiveUp: lost.resolve,
  })
  /** Ends of sockets that wait until shards have closed their connections. */
  const ends: Promise<void>[] = []
  unfinished.defer(async () => void (await Promise.all(ends)))
  unfinished.defer(() => shards.close())
  await untilReady(shards.ready, signal)

  const hears = createOnInterface(place)
  const clientAt = clientsOf(identities)
  const onDefect = (error: unknown) => onError(asNetimageError(error))
  const nameOf = ({ mac, address: ip }: ServeEvent) =>
    mac ?? (ip === undefined ? 'unknown' : identities.toldNameAt(ip))
  const report: Report = (event, isTold = true) => {
    learnGiven(identities, event)
    shards.report(event, nameOf(event), isTold)
  }

  const doorTo = (protocol: 'nfs' | 'http') =>
    createDoor({
      ...{ identities, hears },
      onNamed: (client, socket: Socket) => shards.connect(protocol, client, socket),
    })

  const nfs = await listenNfs(
    {
      ...{ address, ports, hears, onDefect, clientAt },
      pauseOnConnect: true,
    },
    {
      ...doorTo('nfs'),
      async answerDatagram(bytes, ip) {
        const name = await identities.nameSoon(ip)
        return name === undefined ? undefined : await shards.call(bytes, { address: ip, name })
      },
    },
  )
  unfinished.defer(() => void ends.push(nfs.close()))
  const common = { address, onError, hears, clientAt, report, ...(signal && { signal }) }
  async function giveRequest(bytes: Buffer, from: Peer) {
    const ip = plainAddress(from.host) ?? ''
    const name = await identities.nameSoon(ip)
    // Without an answer, the machine asks again.
    if (name !== undefined) shards.read(bytes, from, { address: ip, name })
  }
  const { singlePort = false } = request
  const tftpSocket = await listenTftp({ ...common, port: ports.tftp }, (packet, from) => {
    // With a single port, all packets of a transfer come here.
    if (singlePort || !isReadRequest(packet)) tftp.receive(packet, from)
    else void giveRequest(packet, from).catch(onDefect)
  })
  unfinished.defer(() => tftpSocket.close())
  const tftp = createTftpService(
    {
      ...{ ...common, singlePort },
      async treesOf(requester) {
        const name = await identities.nameSoon(requester.address)
        if (name === undefined) {
          const { address } = requester
          throw notKnown(address)
        }
        return await shards.treesOf(requester, name)
      },
    },
    tftpSocket.send,
  )
  unfinished.defer(() => tftp.close())
  const httpListener = await listenTcp(
    {
      ...{ name: 'HTTP (TCP)', address, port: ports.http },
      ...{ pauseOnConnect: true, onError: onDefect },
    },
    doorTo('http'),
  )
  unfinished.defer(() => void ends.push(httpListener.close()))
  dhcp = await startDhcp(
    request,
    place,
    {
      nameOf: (machine) => site.read.names().get(machine),
      declared,
      onSerial: (mac, serial) => learnt.facts.keep('serial', mac, serial),
      isAllowed: identities.isAllowed,
      bootFor: shards.bootFor,
      common,
    },
    unfinished,
  )
  return {
    ports: { tftp: tftpSocket.port, http: httpListener.port, ...nfs.ports },
    boots: shards.boots,
    operations: shards.operations,
    lost: lost.promise,
  }
}

/**
 * A stop also ends shards that have only begun to start. Then the stop is the reason, and not their end.
 *
 * @throws the reason of the signal; `NetimageError` if a shard cannot begin
 */
async function untilReady(ready: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  const stopped = Promise.withResolvers<void>()
  using listening = new DisposableStack()
  if (signal) listening.use(addAbortListener(signal, () => stopped.resolve()))
  try {
    await Promise.race([ready, stopped.promise])
  } catch (error) {
    // A terminal sends the signal to all processes of the server at once, and a shard that does not handle
    // signals yet ends by it. If both signals have arrived here, the one of the shard's end may be told first.
    // Ours is then told in the same turn of the event loop.
    await nextTurn()
    signal?.throwIfAborted()
    throw error
  }
  signal?.throwIfAborted()
}
