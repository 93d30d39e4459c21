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
import type { Declared } from './declared.ts'
import type { ServeRequest } from './request.ts'

export interface DhcpSurroundings {
  isAllowed: (mac: string) => boolean
  bootFor: DhcpServerOptions['bootFor']
  /** The name that people gave a machine. */
  nameOf: (machine: string) => string | undefined
  declared: Declared
  /** Called when a machine that is served tells its serial number. */
  onSerial: (mac: string, serial: string) => void
  common: Pick<DhcpServerOptions, 'address' | 'report' | 'onError' | 'signal'>
}

/** To be called last: a machine that DHCP answers must find all other servers running. */
export async function startDhcp(
  request: ServeRequest,
  { name, network }: ServedInterface,
  { isAllowed, bootFor, nameOf, declared, onSerial, common }: DhcpSurroundings,
  unfinished: AsyncDisposableStack,
): Promise<DhcpServer | undefined> {
  const tellAddresses = addressTeller(request, declared, common.onError)
  tellAddresses()
  if (request.dhcp === 'off') return undefined
  const { machineOf, cardsOf } = declared
  const shared: DhcpSurroundings['common'] & SharedOptions = {
    ...common,
    interface: name,
    allow: ({ mac }) => isAllowed(mac),
    bootFor(machine, asks) {
      const { mac, serial } = machine
      tellAddresses()
      if (serial !== undefined) onSerial(mac, serial)
      const own = { mac: machineOf(mac) }
      return bootFor({ ...machine, ...own }, { ...asks, ...own })
    },
    report(event, isTold) {
      const { mac } = event
      common.report(mac === undefined ? event : { ...event, mac: machineOf(mac) }, isTold)
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
          reservedLater: declared.addresses,
          hostNameOf(mac) {
            const machine = machineOf(mac)
            return declared.hostNameOf(machine) ?? nameOf(machine)
          },
          told: request.told ?? { routers: [], nameServers: [] },
          leasesFile: join(request.state, 'leases.sqlite'),
          force: request.force ?? false,
        },
  )
  unfinished.defer(() => server.close())
  return {
    ...server,
    sees(machine) {
      for (const mac of cardsOf(machine)) server.sees(mac)
    },
  }
}

/** @returns a function that tells once of addresses that another server would have to give */
function addressTeller(
  { dhcp }: ServeRequest,
  { addresses }: Declared,
  onError: (error: NetimageError) => void,
): () => void {
  let told: ReadonlyMap<string, string> = new Map()
  return () => {
    const now = addresses()
    if (dhcp === 'full' || now === told) return
    told = now
    if (now.size === 0) return
    const all = [...now].map(([mac, address]) => `${address} for ${mac}`).join(', ')
    onError(
      new NetimageError(
        'bad-option',
        `with --dhcp ${dhcp}, another server gives the addresses, and not those of the site’s file: ${all}`,
        {
          details: { field: 'address' },
          hint: 'Reserve them in that server, or serve with --dhcp full on a network without another DHCP server.',
        },
      ),
    )
  }
}

type SharedOptions = Pick<DhcpServerOptions, 'interface' | 'allow' | 'bootFor'>

function networkOf({ network }: ServeRequest, own: Network | undefined): Network {
  if (network !== undefined) return parseNetwork(network)
  if (own) return own
  throw new NetimageError(
    'cannot-listen',
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
