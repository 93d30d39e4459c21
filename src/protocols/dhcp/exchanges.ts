/**
 * Remembers how machines identified themselves in their DISCOVER. Some loaders leave these options
 * out of their REQUEST, and the acknowledgment must tell them the same as the offer.
 */
import { remember } from '../../remember.ts'
import { addressIn, messageType, messageTypeOf, option } from './options.ts'
import type { DhcpPacket } from './packet.ts'

/** Adds the identifying options that an earlier packet of the exchange had, and this one lacks. */
export type Complete = (request: DhcpPacket, port: number) => DhcpPacket

/** The options that tell which program of a machine asks. */
const identifying: readonly number[] = [
  option.vendorClass,
  option.userClass,
  option.architecture,
  option.guid,
  option.ipxe,
]

/** A machine asks the proxyDHCP server of its choice on this port. */
const proxyPort = 4011

interface Said {
  transaction: number
  options: ReadonlyMap<number, Buffer>
}

/** @param server the server's own address */
export function followExchanges(server: string): Complete {
  /** The last exchange of each machine, by hardware address in hex. */
  const exchanges = new Map<string, Said>()

  return (request, port) => {
    const machine = request.hardwareAddress.toString('hex')
    const before = exchanges.get(machine)
    // Some machines use a new transaction number for the REQUEST, but name the server they chose.
    const isChoice = addressIn(request, option.serverId) === server || port === proxyPort
    const isRequest = messageTypeOf(request) === messageType.request
    const goesOn =
      before !== undefined &&
      (before.transaction === request.transaction || (isRequest && isChoice))
    const options = goesOn ? new Map([...before.options, ...request.options]) : request.options
    if (goesOn || messageTypeOf(request) === messageType.discover) {
      const said = [...options].filter(([code]) => identifying.includes(code))
      remember(exchanges, machine, { transaction: request.transaction, options: new Map(said) })
    }
    return { ...request, options }
  }
}
