/**
 * Which machine has which address.
 *
 * A machine is its hardware address, whatever client identifier it sends: its loader, its initrd
 * and its system send different ones, and the address must not change under the root that is
 * mounted by then.
 */
import { formatAddress, parseAddress, type AddressRange } from '../../ipv4.ts'
import type { Lease, LeaseFile } from './lease-file.ts'

export interface Leases {
  /** What a machine has or had. */
  find(mac: string): Lease | undefined
  /** Whether it has a lease that has not expired, or a reservation. */
  knows(mac: string, now: number): boolean
  /** Whether no other server is to give the address. */
  governs(address: string): boolean
  /** Whether a machine may have an address: also a doubtful one, where it was offered for want of others. */
  isFree(address: string, mac: string, now: number): boolean
  /** Addresses for a machine, the best first. @param wanted what it asks for */
  candidates(mac: string, wanted: string | undefined, now: number): string[]
  /** Keep an address for a machine that was offered it, for a short time. */
  offer(address: string, mac: string, now: number): void
  isOffered(address: string, mac: string): boolean
  withdrawOffer(mac: string): void
  /** A new lease is on disk when it returns. */
  grant(address: string, mac: string, now: number, seconds: number): void
  /**
   * Whether a machine may have an address for long: it has shown that it exists, or it has had the
   * address for a while. Who only sends packets makes up as many machines as there are addresses.
   */
  trusts(mac: string, now: number): boolean
  /** A machine was seen to fetch or to mount something: what it has is its own for so long at least. */
  trust(mac: string, now: number, seconds: number): void
  release(mac: string, now: number): void
  /** An address that somebody else uses, as a machine or a probe has found. */
  avoid(address: string, until: number): void
}

export interface LeaseSettings {
  range: AddressRange
  /** Addresses by hardware address; they may lie outside of the range. */
  reservations: ReadonlyMap<string, string>
  /** Addresses of the range that are nobody's. */
  excluded: readonly string[]
  file: LeaseFile
}

/** For who was offered an address and does not say yes or no. */
const offerMs = 30_000
/** A machine that still asks for its address after so long is taken for a real one. */
const trustedAfterMs = 120_000

/** A lease that somebody has. */
interface Held extends Lease {
  /** When the machine got the address: milliseconds since 1970. */
  since: number
  isTrusted: boolean
}

export function keepLeases({ range, reservations, excluded, file }: LeaseSettings): Leases {
  const first = parseAddress(range.first)
  const last = parseAddress(range.last)
  const reserved = new Set([...reservations.values(), ...excluded].map(parseAddress))
  const byAddress = new Map<number, Held>()
  const byMac = new Map<string, Held>()
  const offers = new Map<number, { mac: string; until: number }>()
  const offerOf = new Map<string, number>()
  const avoided = new Map<number, number>()
  for (const read of file.read()) {
    // From an earlier run of the server.
    const lease = { ...read, since: 0, isTrusted: true }
    byAddress.set(lease.address, lease)
    byMac.set(lease.mac, lease)
  }

  const inRange = (address: number) => first <= address && address <= last

  /** Whether it is another machine's lease, and stays so if other addresses are left. */
  function isAnothers(lease: Held, mac: string, now: number): boolean {
    return lease.mac !== mac && lease.expires > now
  }

  /** Whether a lease may be of a machine that somebody made up, and not of one that has just begun. */
  function isDoubtful({ isTrusted, since, mac }: Held, now: number): boolean {
    return !isTrusted && now - since > offerMs && !reservations.has(mac)
  }

  /** Whether anything but an offer or a doubt stands against it. */
  function isOpen(address: number, mac: string, now: number): boolean {
    const reservation = reservations.get(mac)
    if (reservation !== undefined) return address === parseAddress(reservation)
    if (reserved.has(address) || !inRange(address)) return false
    const lease = byAddress.get(address)
    return !lease || !isAnothers(lease, mac, now) || isDoubtful(lease, now)
  }

  function isFree(address: number, mac: string, now: number): boolean {
    const lease = byAddress.get(address)
    if (lease && isAnothers(lease, mac, now)) return false
    const isItsOwn = lease?.mac === mac && lease.expires > now
    const offer = offers.get(address)
    // For want of others, an address may be offered that turns out to have an owner.
    const isOffered = !isItsOwn && offer !== undefined && offer.mac !== mac && offer.until > now
    return isOpen(address, mac, now) && !isOffered && (avoided.get(address) ?? 0) <= now
  }

  function withdrawOffer(mac: string): void {
    const address = offerOf.get(mac)
    if (address !== undefined) offers.delete(address)
    offerOf.delete(mac)
  }

  function put(lease: Held, now: number): void {
    const before = byMac.get(lease.mac)
    const { mac, address, expires } = lease
    // If it expired, others may have the address once this server has started again.
    const isRenewal = before?.address === address && before.expires > now
    if (isRenewal) file.renew({ mac, address, expires })
    else file.write({ mac, address, expires })
    if (before) byAddress.delete(before.address)
    const other = byAddress.get(lease.address)
    if (other) byMac.delete(other.mac)
    byAddress.set(lease.address, lease)
    byMac.set(lease.mac, lease)
  }

  /**
   * What nobody ever had comes first, so that machines find their address again; then what has
   * been free for longest. When nothing is left, what was offered to somebody else longest ago, and
   * then what somebody got longest ago who has not shown since then that there is such a machine:
   * whoever makes up machines by the thousand keeps nobody else out; and at last what is avoided.
   */
  function others(mac: string, now: number): number[] {
    const size = last - first + 1
    const start = hash(mac) % size
    let best: { address: number; rank: number; since: number } | undefined
    for (let step = 0; step < size; step++) {
      const address = first + ((start + step) % size)
      if (!isOpen(address, mac, now)) continue
      const standing = standingOf(address, now)
      if (standing === undefined) return [address]
      const isBetter =
        best === undefined ||
        standing.rank < best.rank ||
        (standing.rank === best.rank && standing.since < best.since)
      if (isBetter) best = { address, ...standing }
    }
    return best ? [best.address] : []
  }

  /** What speaks against an address that is open, the least first; undefined: nothing. */
  function standingOf(address: number, now: number): { rank: number; since: number } | undefined {
    const doubt = avoided.get(address) ?? 0
    if (doubt > now) return { rank: 4, since: doubt }
    const lease = byAddress.get(address)
    if (lease && lease.expires > now) return { rank: 3, since: lease.since }
    const offer = offers.get(address)
    if (offer && offer.until > now) return { rank: 2, since: offer.until }
    return lease && { rank: 1, since: lease.expires }
  }

  function trusts(mac: string, now: number): boolean {
    const lease = byMac.get(mac)
    if (reservations.has(mac)) return true
    if (!lease || lease.expires <= now) return false
    return lease.isTrusted || now - lease.since >= trustedAfterMs
  }

  return {
    find: (mac) => byMac.get(mac),
    knows: (mac, now) => reservations.has(mac) || (byMac.get(mac)?.expires ?? 0) > now,
    governs(text) {
      const address = parseAddress(text)
      return inRange(address) || reserved.has(address)
    },
    isFree(text, mac, now) {
      const address = parseAddress(text)
      const offer = offers.get(address)
      const isOfferedToIt = offer?.mac === mac && offer.until > now
      return isFree(address, mac, now) || (isOfferedToIt && isOpen(address, mac, now))
    },
    candidates(mac, wanted, now) {
      const reservation = reservations.get(mac)
      if (reservation !== undefined) return [reservation]
      const own = [byMac.get(mac)?.address, offerOf.get(mac), wanted && parseAddress(wanted)]
      const preferred = own.filter((address) => typeof address === 'number')
      const free = preferred.filter((address) => isFree(address, mac, now))
      const all = free.length > 0 ? free : others(mac, now)
      return all.map(formatAddress)
    },
    offer(text, mac, now) {
      const address = parseAddress(text)
      withdrawOffer(mac)
      const before = offers.get(address)
      if (before) offerOf.delete(before.mac)
      offers.set(address, { mac, until: now + offerMs })
      offerOf.set(mac, address)
    },
    isOffered: (address, mac) => offerOf.get(mac) === parseAddress(address),
    withdrawOffer,
    grant(text, mac, now, seconds) {
      const address = parseAddress(text)
      const before = byMac.get(mac)
      const isRenewal = before?.address === address && before.expires > now
      const since = isRenewal ? before.since : now
      const expires = now + seconds * 1000
      put({ mac, address, expires, since, isTrusted: trusts(mac, now) }, now)
      const offer = offers.get(address)
      if (offer) withdrawOffer(offer.mac)
      withdrawOffer(mac)
    },
    release(mac, now) {
      const lease = byMac.get(mac)
      if (lease && lease.expires > now) put({ ...lease, expires: now }, now)
    },
    trusts,
    trust(mac, now, seconds) {
      const lease = byMac.get(mac)
      if (!lease || lease.expires <= now || lease.isTrusted) return
      const expires = Math.max(lease.expires, now + seconds * 1000)
      put({ ...lease, expires, isTrusted: true }, now)
    },
    avoid: (address, until) => void avoided.set(parseAddress(address), until),
  }
}

/** FNV-1a: spreads machines over the range, each always to the same place. */
function hash(text: string): number {
  let value = 0x811c9dc5
  for (const byte of Buffer.from(text)) value = Math.imul(value ^ byte, 0x01000193) >>> 0
  return value
}
