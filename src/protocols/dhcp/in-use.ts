/** Whether somebody uses an address already, before it is given to a machine. */
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'

import { openDeviceSocket } from './device-socket.ts'
import { anyAddress } from './packet.ts'

/** @returns the hardware address of who uses it */
export type FindUser = (address: string) => Promise<string | undefined>

/** What is asleep on a wireless network takes this long. */
const answerMs = 400
const discardPort = 9
const nothing = Buffer.alloc(0)

/**
 * [RFC 2131 §3.1] asks for an ICMP echo request, which takes a raw socket. A datagram to any port
 * does better: the kernel must find the machine by ARP first, which no firewall keeps from
 * answering, and its table then says who it is. It may also say so of a machine that left minutes
 * ago; the datagram has the kernel look again, and it knows better after a few seconds.
 */
export async function findUsersByArp(
  device: string,
): Promise<{ findUser: FindUser; close: () => Promise<void> }> {
  // Another interface may have the same network, but the machines are at this one.
  const socket = await openDeviceSocket({
    ...{ name: 'The search for users of addresses', device, address: anyAddress, port: 0 },
    ...{ shared: false, onMessage: () => {}, onError: () => {} },
  })
  const asked = new Map<string, Promise<string | undefined>>()

  async function ask(address: string): Promise<string | undefined> {
    socket.send(nothing, { address, port: discardPort })
    await sleep(answerMs)
    asked.delete(address)
    return arpTable(device).get(address)
  }

  return {
    findUser(address) {
      const answer = asked.get(address) ?? ask(address)
      asked.set(address, answer)
      return answer
    },
    close: () => socket.close(),
  }
}

const isComplete = 2

/** proc(5): address, type, flags, hardware address, mask, device */
function arpTable(device: string): Map<string, string> {
  const rows = readFileSync('/proc/net/arp', 'utf8').trim().split('\n').slice(1)
  return new Map(
    rows.flatMap((row) => {
      const [address, , flags, mac, , rowDevice] = row.split(/\s+/)
      const counts = rowDevice === device && (Number(flags) & isComplete) !== 0
      return counts && address !== undefined && mac !== undefined ? [[address, mac]] : []
    }),
  )
}
