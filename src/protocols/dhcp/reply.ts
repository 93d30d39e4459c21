/** Replies and their destinations. */
import { addressValue, byteValue, messageType, option } from './options.ts'
import { anyAddress, commonBytes, type DhcpPacket } from './packet.ts'

export type ReplyType = 'offer' | 'acknowledge' | 'negative'

export interface ReplyFields {
  clientAddress?: string
  yourAddress?: string
  nextServer?: string
  file?: string
  options?: ReadonlyMap<number, Buffer>
}

/** A reply repeats these options of the request. [RFC 6842], [RFC 4578 §2.3], [RFC 3046] */
const echoed = [option.clientId, option.guid, option.relayInformation]

/** [RFC 2131 §4.3.1, table 3] */
export function replyTo(
  request: DhcpPacket,
  server: string,
  type: ReplyType,
  { options = new Map(), ...fields }: ReplyFields,
): DhcpPacket {
  const echoes = echoed.flatMap((code) => {
    const value = request.options.get(code)
    return value ? [[code, value] as const] : []
  })
  return {
    operation: 'reply',
    hardwareType: request.hardwareType,
    hardwareAddress: request.hardwareAddress,
    hops: 0,
    transaction: request.transaction,
    seconds: 0,
    broadcast: request.broadcast,
    clientAddress: anyAddress,
    yourAddress: anyAddress,
    nextServer: anyAddress,
    relay: request.relay,
    serverName: '',
    file: '',
    ...fields,
    options: new Map([
      [option.messageType, byteValue(messageType[type])],
      [option.serverId, addressValue(server)],
      ...options,
      ...echoes,
    ]),
  }
}

/** The payload of one Ethernet packet, without the headers of IP and UDP. */
const wireBytes = 1472
const ipAndUdpBytes = 28

/** Option 57 includes the headers of IP and UDP. [RFC 2132 §9.10] */
export function maxReplyBytes({ options }: DhcpPacket): number {
  const value = options.get(option.maxMessageBytes)
  if (value?.length !== 2) return commonBytes
  return Math.min(Math.max(value.readUInt16BE(0) - ipAndUdpBytes, commonBytes), wireBytes)
}

const [serverPort, clientPort] = [67, 68]

/**
 * [RFC 2131 §4.1] A machine that has no address yet gets a broadcast: a unicast packet to its
 * future address needs a raw socket, which Node does not have.
 */
export function destinationOf(reply: DhcpPacket): { address: string; port: number } {
  if (reply.relay !== anyAddress) return { address: reply.relay, port: serverPort }
  const isKnown = reply.clientAddress !== anyAddress && !isNegative(reply)
  return { address: isKnown ? reply.clientAddress : '255.255.255.255', port: clientPort }
}

function isNegative({ options }: DhcpPacket): boolean {
  return options.get(option.messageType)?.[0] === messageType.negative
}
