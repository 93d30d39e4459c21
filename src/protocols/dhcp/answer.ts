/** What a server does about a request. */
import type { DhcpEvent } from '../event.ts'
import type { DhcpPacket } from './packet.ts'

export interface Answer {
  step: DhcpEvent['step']
  /** What is sent; none where the machine is not answered. */
  packet?: DhcpPacket
  /** What the machine has or is given. */
  address?: string
  /** Why it is refused. */
  reason?: string
}
