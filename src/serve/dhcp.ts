/** Our DHCP server as `netimage serve` needs it. */
import { join } from 'node:path'

import { NetimageError } from '../errors.ts'
import { parseNetwork, parseRange, type Network } from '../ipv4.ts'
import {
  startDhcpServer,
  type DhcpServer,
  type DhcpServerOptions,
} from '../protocols/dhcp/server.ts'
import type { ServedInterface } from '../protocols/interfaces.ts'
import type { ServeRequest } from './request.ts'

export interface DhcpSurroundings {
  isAllowed: (mac: string) => boolean
  bootFor: DhcpServerOptions['bootFor']
  hostNameOf: (mac: string) => string | undefined
  common: Pick<DhcpServerOptions, 'address' | 'report' | 'onError' | 'signal'>
}

/** To be called last: a machine that DHCP answers must find all other servers running. */
export async function startDhcp(
  request: ServeRequest,
  { name, network }: ServedInterface,
  { isAllowed, bootFor, hostNameOf, common }: DhcpSurroundings,
  unfinished: AsyncDisposableStack,
): Promise<DhcpServer | undefined> {
  if (request.dhcp === 'off') return undefined
  const shared = {
    ...common,
    interface: name,
    allow: ({ mac }: { mac: string }) => isAllowed(mac),
    bootFor,
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
