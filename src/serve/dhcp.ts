/** Our DHCP server as `netimage serve` needs it: which machines it answers, and what they boot. */
import { join } from 'node:path'

import { asNetimageError, NetimageError } from '../errors.ts'
import { parseNetwork, parseRange, type Network } from '../ipv4.ts'
import type { Machine } from '../protocols/dhcp/machine.ts'
import {
  startDhcpServer,
  type DhcpRequestEvent,
  type DhcpServer,
} from '../protocols/dhcp/server.ts'
import type { ServedInterface } from '../protocols/interfaces.ts'
import { bootAnswer } from './boot-answer.ts'
import type { Identities } from './identity.ts'
import type { Defaults } from './defaults.ts'
import { nothingToBoot, type Gate } from './gate.ts'
import type { ServeRequest } from './request.ts'

const isRunning = 'another machine with the same hardware address uses the root'

export interface DhcpSurroundings {
  gate: Gate
  defaults: Defaults
  hostNameOf: (mac: string) => string | undefined
  identities: Identities
  common: Pick<
    Parameters<typeof startDhcpServer>[0],
    'address' | 'learn' | 'report' | 'onError' | 'signal'
  >
}

/** To be called last: a machine that DHCP answers must find all other servers running. */
export async function startDhcp(
  request: ServeRequest,
  { name, address, network }: ServedInterface,
  { gate, defaults, hostNameOf, identities, common }: DhcpSurroundings,
  unfinished: AsyncDisposableStack,
): Promise<DhcpServer | undefined> {
  if (request.dhcp === 'off') return undefined
  const shared = {
    ...common,
    interface: name,
    allow: ({ mac }: { mac: string }) => identities.isAllowed(mac),
    async bootFor(machine: Machine, asks: DhcpRequestEvent) {
      const { mac } = machine
      const [architecture] = machine.architectures
      const isPi = machine.bootClient === 'raspberry-pi'
      const processor = isPi ? 'raspberry-pi' : architecture
      if (identities.isRunning(mac)) return { reason: isRunning }
      if (processor !== undefined) defaults.learnProcessor(mac, processor)
      try {
        const booted = await gate.enter(mac, asks)
        if (!booted) return { reason: nothingToBoot(mac).message }
        const answer = bootAnswer(machine, booted.system.loaders, address)
        if ('reason' in answer && machine.bootClient !== undefined) gate.lacksFile(mac)
        return answer
      } catch (error) {
        const known = asNetimageError(error)
        common.onError(known)
        return { reason: known.message }
      }
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
          hostNameOf,
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
