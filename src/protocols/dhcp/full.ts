/** A DHCP server that gives addresses. [RFC 2131 §4.3] */
import { formatAddress, isInNetwork, type Network } from '../../ipv4.ts'
import type { NetworkFacts } from './address-settings.ts'
import type { Answer } from './answer.ts'
import { bootFields, type BootAnswer } from './boot-fields.ts'
import type { FindUser } from './in-use.ts'
import type { Leases } from './leases.ts'
import type { Machine } from './machine.ts'
import {
  addressIn,
  addressValue,
  messageType,
  messageTypeOf,
  numberValue,
  option,
  secondsIn,
} from './options.ts'
import { anyAddress, type DhcpPacket } from './packet.ts'
import { replyTo } from './reply.ts'

export interface FullSettings {
  /** The server's own address. */
  address: string
  network: Network
  told: NetworkFacts
  /** The host name that the machine with a hardware address is told. */
  hostNameOf?: ((mac: string) => string | undefined) | undefined
  leases: Leases
  findUser: FindUser
  /** Called when a machine gets another address, because the one that is reserved for it is in use. */
  onPostponed: (postponed: Postponed) => void
  /** Milliseconds since 1970. */
  now: () => number
}

export interface Postponed {
  mac: string
  /** The address that is reserved for the machine. */
  reserved: string
  /** The hardware address of the machine that has it. */
  holder: string
  /** The address that the machine gets until the holder starts again. */
  given: string
}

/** @param boot undefined: the machine gets only an address */
export type AnswerInFull = (
  request: DhcpPacket,
  machine: Machine,
  boot: BootAnswer | undefined,
) => Promise<Answer | undefined>

/** Long, because some initrds never renew their lease. */
export const leaseSeconds = 12 * 60 * 60
/**
 * For a hardware address that may be invented. A real machine that boots fetches files within this
 * time and then gets a long lease; any other real machine renews its lease.
 */
const firstLeaseSeconds = 600
const leastLeaseSeconds = 120
/** How long an address is avoided after a machine declined it, or after a probe found its user. */
const [declinedMs, foundMs] = [600_000, 30_000]
/** The machine waits during each probe. */
const maxProbes = 4
/** How many unknown machines may wait for an offer at once; further ones ask again. */
const maxChoosing = 256

export function serveInFull(settings: FullSettings): AnswerInFull {
  const { address: server, network, hostNameOf, leases, findUser, onPostponed, now } = settings
  const networkOptions = optionsOf(network, settings.told)

  function acknowledge(
    request: DhcpPacket,
    machine: Machine,
    boot: BootAnswer | undefined,
    type: 'offer' | 'acknowledge',
    given: { address: string; seconds: number } | undefined,
  ): Answer {
    const { clientAddress } = request
    const { options: bootOptions, ...fields } = boot
      ? bootFields(boot, 'address-server', machine)
      : { options: [] }
    const times: [number, number][] = given
      ? [
          [option.leaseSeconds, given.seconds],
          [option.renewalSeconds, Math.floor(given.seconds / 2)],
          [option.rebindingSeconds, Math.floor((given.seconds * 7) / 8)],
        ]
      : []
    const hostName = hostNameOf?.(machine.mac)
    const packet = replyTo(request, server, type, {
      // A kernel or an initrd needs it too: `nfsroot=` without a server means this address.
      nextServer: server,
      ...fields,
      ...(type === 'acknowledge' && { clientAddress }),
      ...(given && { yourAddress: given.address }),
      options: new Map([
        ...networkOptions,
        ...(hostName === undefined ? [] : [[option.hostName, Buffer.from(hostName)] as const]),
        ...times.map(([code, seconds]) => [code, numberValue(seconds)] as const),
        ...bootOptions,
      ]),
    })
    return { step: type, packet, address: given?.address ?? clientAddress }
  }

  function refuse(request: DhcpPacket, reason: string): Answer {
    const options = new Map([[option.message, Buffer.from(reason)]])
    // A relay must broadcast a refusal: the machine may not use its address. [RFC 2131 §4.3.2]
    const fields = { ...request, broadcast: request.relay !== anyAddress || request.broadcast }
    return { step: 'refuse', packet: replyTo(fields, server, 'negative', { options }), reason }
  }

  function secondsFor(request: DhcpPacket, { mac }: Machine): number {
    const most = leases.trusts(mac, now()) ? leaseSeconds : firstLeaseSeconds
    const wanted = secondsIn(request, option.leaseSeconds) ?? most
    return Math.min(Math.max(wanted, leastLeaseSeconds), most)
  }

  /**
   * Keeps an address for the machine.
   *
   * @returns the address, or the reason why there is none; undefined: do not answer
   */
  async function chooseAddress(
    request: DhcpPacket,
    { mac }: Machine,
  ): Promise<{ address: string } | { reason: string } | undefined> {
    const lease = leases.find(mac)
    const wanted = addressIn(request, option.requestedAddress)
    let reason = 'no address is left'
    for (let probes = 0; probes < maxProbes; probes++) {
      const [address] = leases.candidates(mac, wanted, now())
      if (address === undefined) break
      leases.offer(address, mac, now())
      const isItsOwn = lease && formatAddress(lease.address) === address && lease.expires > now()
      const user = isItsOwn ? mac : await findUser(address)
      // During the probe, the address may have been given to another machine.
      if (!leases.isOffered(address, mac)) return undefined
      if (user === undefined || user === mac) {
        const held = leases.holderOfReserved(mac, now())
        if (held) onPostponed({ mac, reserved: held.address, holder: held.holder, given: address })
        return { address }
      }
      leases.withdrawOffer(mac)
      leases.avoid(address, now() + foundMs)
      reason = `${address} is used by ${user}`
    }
    return { reason }
  }

  const choosing = new Set<string>()

  async function discover(
    request: DhcpPacket,
    machine: Machine,
    boot: BootAnswer | undefined,
  ): Promise<Answer | undefined> {
    // The machine repeats a question that is still being answered.
    if (choosing.has(machine.mac)) return undefined
    if (choosing.size >= maxChoosing && !leases.knows(machine.mac, now())) return undefined
    choosing.add(machine.mac)
    try {
      const choice = await chooseAddress(request, machine)
      if (choice === undefined) return undefined
      if ('reason' in choice) return { step: 'refuse', reason: choice.reason }
      const given = { ...choice, seconds: secondsFor(request, machine) }
      return acknowledge(request, machine, boot, 'offer', given)
    } finally {
      choosing.delete(machine.mac)
    }
  }

  function grant(
    request: DhcpPacket,
    machine: Machine,
    boot: BootAnswer | undefined,
    address: string,
  ): Answer {
    const { mac } = machine
    if (!isInNetwork(address, network)) {
      return refuse(request, `${address} is not in the network ${network.address}`)
    }
    if (!leases.isFree(address, mac, now())) {
      return refuse(request, `${address} is not free for this machine`)
    }
    const seconds = secondsFor(request, machine)
    leases.grant(address, mac, now(), seconds)
    return acknowledge(request, machine, boot, 'acknowledge', { address, seconds })
  }

  /** The four states in which a client asks. [RFC 2131 §4.3.2] */
  function request(
    packet: DhcpPacket,
    machine: Machine,
    boot: BootAnswer | undefined,
  ): Answer | undefined {
    const { mac } = machine
    const chosen = addressIn(packet, option.serverId)
    const wanted = addressIn(packet, option.requestedAddress)
    // SELECTING
    if (chosen !== undefined && chosen !== server) {
      leases.withdrawOffer(mac)
      return undefined
    }
    if (chosen !== undefined && wanted !== undefined) {
      // An offer from before a restart of this server is forgotten: the machine must ask anew.
      if (!hasOrWasOffered(wanted, mac)) {
        return refuse(packet, `${wanted} was not offered to this machine`)
      }
      return grant(packet, machine, boot, wanted)
    }
    // INIT-REBOOT, or RENEWING and REBINDING
    const address = wanted ?? packet.clientAddress
    if (address === anyAddress) return undefined
    const lease = leases.find(mac)
    if (lease && formatAddress(lease.address) !== address) {
      return refuse(packet, `the machine has ${formatAddress(lease.address)}, not ${address}`)
    }
    if (lease || leases.knows(mac, now())) return grant(packet, machine, boot, address)
    // Another server may know this machine, so we refuse only addresses that are surely wrong.
    const isOfAnotherNetwork = wanted !== undefined && !isInNetwork(wanted, network)
    const isAnothers = leases.governs(address) && !leases.isFree(address, mac, now())
    if (isOfAnotherNetwork) {
      return refuse(packet, `${address} is not in the network ${network.address}`)
    }
    return isAnothers ? refuse(packet, `${address} is not free for this machine`) : undefined
  }

  return async (packet, machine, boot) => {
    const { mac } = machine
    const { relay, clientAddress } = packet
    if (relay !== anyAddress && !isInNetwork(relay, network)) {
      const reason = `the relay ${relay} is not in the network ${network.address}`
      return { step: 'refuse', reason }
    }
    switch (messageTypeOf(packet)) {
      case messageType.discover:
        return await discover(packet, machine, boot)
      case messageType.request:
        return request(packet, machine, boot)
      case messageType.decline: {
        const address = addressIn(packet, option.requestedAddress)
        if (address === undefined || !hasOrWasOffered(address, mac)) return undefined
        leases.release(mac, now())
        leases.withdrawOffer(mac)
        leases.avoid(address, now() + declinedMs)
        return { step: 'decline', address, reason: `${address} is used by another machine` }
      }
      case messageType.release:
        if (!hasOrWasOffered(clientAddress, mac)) return undefined
        leases.release(mac, now())
        return { step: 'release', address: clientAddress }
      case messageType.inform:
        if (!isInNetwork(clientAddress, network)) return undefined
        return acknowledge(packet, machine, boot, 'acknowledge', undefined)
      default:
        return undefined
    }
  }

  function hasOrWasOffered(address: string, mac: string): boolean {
    const lease = leases.find(mac)
    const has = lease !== undefined && formatAddress(lease.address) === address
    return has || leases.isOffered(address, mac)
  }
}

/** The netmask must come before the routers. [RFC 2132 §3.3, §3.5, §3.8, §3.17] */
function optionsOf(
  { netmask }: Network,
  { routers, nameServers, domain }: NetworkFacts,
): [number, Buffer][] {
  const lists: [number, readonly string[]][] = [
    [option.netmask, [netmask]],
    [option.routers, routers],
    [option.nameServers, nameServers],
  ]
  const options = lists
    .filter(([, addresses]) => addresses.length > 0)
    .map(([code, addresses]): [number, Buffer] => [
      code,
      Buffer.concat(addresses.map(addressValue)),
    ])
  return domain === undefined ? options : [...options, [option.domain, Buffer.from(domain)]]
}
