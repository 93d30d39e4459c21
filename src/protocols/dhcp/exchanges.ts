/**
 * What machines said of themselves in the packets of one exchange. Not every loader says in its
 * REQUEST what it said in its DISCOVER: it is told the same as in the offer nevertheless.
 */
import { remember } from '../../remember.ts'
import { addressIn, messageType, messageTypeOf, option } from './options.ts'
import type { DhcpPacket } from './packet.ts'

/** Adds to a packet what an earlier one of its exchange said, and this one leaves out. */
export type Complete = (request: DhcpPacket, port: number) => DhcpPacket

/** By these options a machine says which of its programs asks. */
const identifying: readonly number[] = [
  option.vendorClass,
  option.userClass,
  option.architecture,
  option.guid,
  option.ipxe,
]

/** A machine asks the server there that it chose. */
const proxyPort = 4011

interface Said {
  transaction: number
  options: ReadonlyMap<number, Buffer>
}

/** @param server the server's own address */
export function followExchanges(server: string): Complete {
  /** By hardware address, in hex: the last exchange of each machine. */
  const exchanges = new Map<string, Said>()

  return (request, port) => {
    const machine = request.hardwareAddress.toString('hex')
    const before = exchanges.get(machine)
    // Some take another number for the REQUEST, but name the server whose offer they take.
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
