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
  /** On disk when it returns. @param expires milliseconds since 1970 */
  grant(address: string, mac: string, expires: number): void
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

export function keepLeases({ range, reservations, excluded, file }: LeaseSettings): Leases {
  const first = parseAddress(range.first)
  const last = parseAddress(range.last)
  const reserved = new Set([...reservations.values(), ...excluded].map(parseAddress))
  const byAddress = new Map<number, Lease>()
  const byMac = new Map<string, Lease>()
  const offers = new Map<number, { mac: string; until: number }>()
  const offerOf = new Map<string, number>()
  const avoided = new Map<number, number>()
  for (const lease of file.read()) {
    byAddress.set(lease.address, lease)
    byMac.set(lease.mac, lease)
  }

  const inRange = (address: number) => first <= address && address <= last

  /** Whether anything but an offer or a doubt stands against it. */
  function isOpen(address: number, mac: string, now: number): boolean {
    const reservation = reservations.get(mac)
    if (reservation !== undefined) return address === parseAddress(reservation)
    if (reserved.has(address) || !inRange(address)) return false
    const lease = byAddress.get(address)
    return lease === undefined || lease.mac === mac || lease.expires <= now
  }

  function isFree(address: number, mac: string, now: number): boolean {
    const offer = offers.get(address)
    const isOffered = offer !== undefined && offer.mac !== mac && offer.until > now
    return isOpen(address, mac, now) && !isOffered && (avoided.get(address) ?? 0) <= now
  }

  function withdrawOffer(mac: string): void {
    const address = offerOf.get(mac)
    if (address !== undefined) offers.delete(address)
    offerOf.delete(mac)
  }

  function put(lease: Lease): void {
    file.write(lease)
    const before = byMac.get(lease.mac)
    if (before) byAddress.delete(before.address)
    const other = byAddress.get(lease.address)
    if (other) byMac.delete(other.mac)
    byAddress.set(lease.address, lease)
    byMac.set(lease.mac, lease)
  }

  /**
   * What nobody ever had comes first, so that machines find their address again; then what has
   * been free for longest. When nothing is left, what was offered to somebody else longest ago:
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
    if (doubt > now) return { rank: 3, since: doubt }
    const offer = offers.get(address)
    if (offer && offer.until > now) return { rank: 2, since: offer.until }
    const lease = byAddress.get(address)
    return lease && { rank: 1, since: lease.expires }
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
    grant(text, mac, expires) {
      const address = parseAddress(text)
      put({ mac, address, expires })
      const offer = offers.get(address)
      if (offer) withdrawOffer(offer.mac)
      withdrawOffer(mac)
    },
    release(mac, now) {
      const lease = byMac.get(mac)
      if (lease && lease.expires > now) put({ ...lease, expires: now })
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
