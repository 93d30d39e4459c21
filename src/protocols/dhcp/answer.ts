/** The result of handling a request. */
import type { DhcpEvent } from '../event.ts'
import type { DhcpPacket } from './packet.ts'

export interface Answer {
  step: DhcpEvent['step']
  /** The reply; undefined if none is sent. */
  packet?: DhcpPacket
  /** The address that the machine has or is given. */
  address?: string
  /** Why the machine is refused. */
  reason?: string
}
