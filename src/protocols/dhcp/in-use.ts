/** Finds out whether a machine uses an address already, before it is given to another machine. */
import { setTimeout as sleep } from 'node:timers/promises'

import { parseArpTable, readArpTable } from '../arp-table.ts'
import { openDeviceSocket } from './device-socket.ts'
import { anyAddress } from './packet.ts'

/** @returns the hardware address of the machine that uses the address; undefined if none answers */
export type FindUser = (address: string) => Promise<string | undefined>

/** A device in power saving on a wireless network takes this long to answer. */
const answerMs = 400
const discardPort = 9
const nothing = Buffer.alloc(0)

/**
 * [RFC 2131 §3.1] asks for an ICMP echo request, which needs a raw socket. Instead we send a
 * datagram to any port: the kernel must first find the machine by ARP, and no firewall blocks ARP.
 * Then the kernel's ARP table holds the machine's hardware address. The table may also still hold a
 * machine that left minutes ago. The datagram makes the kernel ask again, and the entry is gone a
 * few seconds later.
 */
export async function findUsersByArp(
  device: string,
): Promise<{ findUser: FindUser; close: () => Promise<void> }> {
  // Bound to the interface: another interface may have the same network.
  const socket = await openDeviceSocket({
    ...{ name: 'The search for users of addresses', device, address: anyAddress, port: 0 },
    ...{ shared: false, onMessage: () => {}, onError: () => {} },
  })
  const asked = new Map<string, Promise<string | undefined>>()

  async function ask(address: string): Promise<string | undefined> {
    socket.send(nothing, { address, port: discardPort })
    await sleep(answerMs)
    asked.delete(address)
    return parseArpTable(readArpTable() ?? '', device).macs.get(address)
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
