/**
 * proxyDHCP: gives boot information, while another server gives the addresses.
 *
 * Intel's PXE specification 2.1, section 2.2
 */
import type { Answer } from './answer.ts'
import { bootFields, type BootAnswer } from './boot-fields.ts'
import type { Machine } from './machine.ts'
import { messageType, messageTypeOf } from './options.ts'
import { anyAddress, type DhcpPacket } from './packet.ts'
import { replyTo } from './reply.ts'

/**
 * @param port the port of the request: on 67 a machine looks for servers, on 4011 it asks this one
 * @returns undefined if the request is for the server that gives the addresses
 */
export function answerAsProxy(
  request: DhcpPacket,
  {
    machine,
    boot,
    server,
    port,
  }: {
    machine: Machine
    boot: BootAnswer
    server: string
    port: number
  },
): Answer | undefined {
  if (!isForProxy(request, port)) return undefined
  if (boot.client === 'u-boot') {
    const reason =
      'U-Boot takes only the first offer and cannot use proxyDHCP: serve with --dhcp full'
    return { step: 'refuse', reason }
  }
  if (request.relay !== anyAddress) {
    const reason = `the request came by the relay ${request.relay}, and a proxy serves only its own network`
    return { step: 'refuse', reason }
  }
  if (port === 67) {
    const fields = bootFields(boot, 'proxy', machine)
    return { step: 'offer', packet: replyTo(request, server, 'offer', fields) }
  }
  const { clientAddress } = request
  const fields = { ...bootFields(boot, 'proxy-4011', machine), clientAddress }
  const packet = replyTo(request, server, 'acknowledge', fields)
  return { step: 'acknowledge', packet, address: clientAddress }
}

export function isForProxy(request: DhcpPacket, port: number): boolean {
  const type = messageTypeOf(request)
  if (port === 67) return type === messageType.discover
  return type === messageType.request || type === messageType.inform
}
