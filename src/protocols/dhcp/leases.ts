/**
 * The addresses that machines have.
 *
 * A machine is identified by its hardware address, never by its client identifier: its loader, its
 * initrd and its system send different client identifiers, and the address must not change while
 * the root is mounted.
 */
import { NetimageError } from '../../errors.ts'
import { formatAddress, parseAddress, type AddressRange } from '../../ipv4.ts'
import type { Lease, LeaseFile } from './lease-file.ts'

export interface Leases {
  /** The lease of a machine, even if it has expired. */
  find(mac: string): Lease | undefined
  /** Whether the machine has a reservation, or a lease that has not expired. */
  knows(mac: string, now: number): boolean
  /**
   * The other machine that has the address which is reserved for this one, and keeps it until it starts
   * again. Until then, this one gets an address of the range.
   */
  holderOfReserved(mac: string, now: number): { address: string; holder: string } | undefined
  /** Whether only this server gives the address. */
  governs(address: string): boolean
  /**
   * Whether a machine may have an address. If no better address was left, this is also true of a
   * doubtful address that was offered to the machine.
   */
  isFree(address: string, mac: string, now: number): boolean
  /**
   * Addresses for a machine, the best first. @param wanted the address that the machine asks for
   */
  candidates(mac: string, wanted: string | undefined, now: number): string[]
  /** Keeps an address for a machine for a short time. */
  offer(address: string, mac: string, now: number): void
  isOffered(address: string, mac: string): boolean
  withdrawOffer(mac: string): void
  /** A new lease is on the disk when this returns. */
  grant(address: string, mac: string, now: number, seconds: number): void
  /**
   * Whether a machine may have a long lease: it has fetched or mounted something, or it has had the
   * address for a while. Otherwise an attacker could take all addresses with invented hardware
   * addresses.
   */
  trusts(mac: string, now: number): boolean
  /** Trusts a machine that fetched or mounted something: its lease lasts at least `seconds`. */
  trust(mac: string, now: number, seconds: number): void
  release(mac: string, now: number): void
  /** Does not give an address until a time, because a machine or a probe found it in use. */
  avoid(address: string, until: number): void
}

export interface LeaseSettings {
  range: AddressRange
  /** Hardware address to address, as it is now; an address may lie outside of the range. */
  reservations: () => ReadonlyMap<string, string>
  /** Addresses that no machine may have. */
  excluded: readonly string[]
  file: LeaseFile
}

/** How long an offered address is kept for a machine that does not answer. */
const offerMs = 30_000
/** A machine that still renews its lease after this time is trusted. */
const trustedAfterMs = 120_000

interface Held extends Lease {
  /** When the machine got the address: milliseconds since 1970. */
  since: number
  isTrusted: boolean
}

interface Standing {
  /** One of `ranks`. */
  rank: number
  /** Of addresses with the same rank, the one with the lowest time is the best. */
  since: number
}

/** What is known of an address, the best first. */
const ranks = {
  /** No machine ever had it: so machines get their old addresses back. */
  unused: 0,
  /** It is free since this time, or the machine has it already. */
  free: 1,
  /** It is offered to another machine until this time. */
  offered: 2,
  /** Another machine has it since this time, which may be invented and must not keep real ones out. */
  doubtful: 3,
  /** Somebody seems to use it. It is avoided until this time. */
  avoided: 4,
} as const

export function keepLeases({ range, reservations, excluded, file }: LeaseSettings): Leases {
  const first = parseAddress(range.first)
  const last = parseAddress(range.last)
  const never: ReadonlySet<number> = new Set(excluded.map(parseAddress))
  let known: ReadonlyMap<string, string> | undefined
  let reserved: ReadonlySet<number> = new Set()
  const byAddress = new Map<number, Held>()
  const byMac = new Map<string, Held>()
  const offers = new Map<number, { mac: string; until: number }>()
  const offerOf = new Map<string, number>()
  const avoided = new Map<number, number>()
  for (const read of file.read()) {
    // Leases of an earlier run of the server are trusted.
    const lease = { ...read, since: 0, isTrusted: true }
    byAddress.set(lease.address, lease)
    byMac.set(lease.mac, lease)
  }

  const reservationOf = (mac: string) => reservations().get(mac)

  function isReserved(address: number): boolean {
    const now = reservations()
    if (now !== known) reserved = new Set([...now.values()].map(parseAddress))
    known = now
    return reserved.has(address) || never.has(address)
  }

  const inRange = (address: number) => first <= address && address <= last
  const isOfPool = (address: number) => inRange(address) && !isReserved(address)

  /**
   * Whether a hardware address of this lease may be invented. A new lease is not doubtful: a real
   * machine needs some time before it fetches anything.
   */
  function isDoubtful({ isTrusted, since, mac }: Held, now: number): boolean {
    return !isTrusted && now - since > offerMs && reservationOf(mac) === undefined
  }

  function holderOfReserved(
    mac: string,
    now: number,
  ): { address: string; holder: string } | undefined {
    const address = reservationOf(mac)
    const lease = address === undefined ? undefined : byAddress.get(parseAddress(address))
    if (address === undefined || lease === undefined || lease.mac === mac) return undefined
    const isHeld = lease.expires > now && !isDoubtful(lease, now)
    // Some machines never renew their lease, and still use the address.
    const isFoundInUse = (avoided.get(lease.address) ?? 0) > now
    return isHeld || isFoundInUse ? { address, holder: lease.mac } : undefined
  }

  /** How good an address is for a machine; undefined: the machine may not have it. */
  function standingOf(address: number, mac: string, now: number): Standing | undefined {
    const reservation = reservationOf(mac)
    const isItsReserved = reservation !== undefined && address === parseAddress(reservation)
    const lease = byAddress.get(address)
    const isCurrent = lease !== undefined && lease.expires > now
    const isAnothers = isCurrent && lease.mac !== mac
    // A machine that runs keeps its address until it asks for a new one: its root is mounted by it.
    const mayKeep = isCurrent && !isAnothers && !never.has(address)
    const getsOfPool = reservation === undefined || holderOfReserved(mac, now) !== undefined
    if (!isItsReserved && !mayKeep && !(getsOfPool && isOfPool(address))) return undefined
    if (isAnothers && !isDoubtful(lease, now)) return undefined
    const doubt = avoided.get(address) ?? 0
    if (doubt > now) return { rank: ranks.avoided, since: doubt }
    if (isAnothers) return { rank: ranks.doubtful, since: lease.since }
    const offer = offers.get(address)
    // If no better address was left, the address of a doubtful lease may have been offered, and
    // then the machine that has this lease asks for its address again.
    const isOffered = !isCurrent && offer !== undefined && offer.mac !== mac && offer.until > now
    if (isOffered) return { rank: ranks.offered, since: offer.until }
    return lease ? { rank: ranks.free, since: lease.expires } : { rank: ranks.unused, since: 0 }
  }

  function withdrawOffer(mac: string): void {
    const address = offerOf.get(mac)
    if (address !== undefined) offers.delete(address)
    offerOf.delete(mac)
  }

  function put(lease: Held, now: number): void {
    const before = byMac.get(lease.mac)
    const { mac, address, expires } = lease
    // An expired lease must be written at once: after a restart, others could get the address.
    const isRenewal = before?.address === address && before.expires > now
    if (isRenewal) file.renew({ mac, address, expires })
    else if (isItsOwn(mac, address)) writeOrWait({ mac, address, expires })
    else file.write({ mac, address, expires })
    if (before) byAddress.delete(before.address)
    const other = byAddress.get(lease.address)
    if (other) byMac.delete(other.mac)
    byAddress.set(lease.address, lease)
    byMac.set(lease.mac, lease)
  }

  /** Whether the machine had the address last, or the address is reserved for it. */
  function isItsOwn(mac: string, address: number): boolean {
    const reservation = reservationOf(mac)
    if (reservation !== undefined && parseAddress(reservation) === address) return true
    return byMac.get(mac)?.address === address
  }

  /**
   * On a full disk no other machine can get the address of this one, so this one may have it. The lease
   * is written as soon as there is room.
   */
  function writeOrWait(lease: Lease): void {
    try {
      file.write(lease)
    } catch (error) {
      if (!(error instanceof NetimageError && error.code === 'disk-full')) throw error
      file.renew(lease)
    }
  }

  /** The best other address for a machine. */
  function others(mac: string, now: number): number[] {
    const size = last - first + 1
    const start = hash(mac) % size
    let best: ({ address: number } & Standing) | undefined
    for (let step = 0; step < size; step++) {
      const address = first + ((start + step) % size)
      const standing = standingOf(address, mac, now)
      if (standing === undefined) continue
      if (standing.rank === ranks.unused) return [address]
      const isBetter =
        best === undefined ||
        standing.rank < best.rank ||
        (standing.rank === best.rank && standing.since < best.since)
      if (isBetter) best = { address, ...standing }
    }
    return best ? [best.address] : []
  }

  function trusts(mac: string, now: number): boolean {
    const lease = byMac.get(mac)
    if (reservationOf(mac) !== undefined) return true
    if (!lease || lease.expires <= now) return false
    return lease.isTrusted || now - lease.since >= trustedAfterMs
  }

  return {
    find: (mac) => byMac.get(mac),
    holderOfReserved,
    knows: (mac, now) => reservationOf(mac) !== undefined || (byMac.get(mac)?.expires ?? 0) > now,
    governs(text) {
      const address = parseAddress(text)
      return inRange(address) || isReserved(address)
    },
    isFree(text, mac, now) {
      const address = parseAddress(text)
      const standing = standingOf(address, mac, now)
      if (standing === undefined || standing.rank <= ranks.free) return standing !== undefined
      const offer = offers.get(address)
      return offer?.mac === mac && offer.until > now
    },
    candidates(mac, wanted, now) {
      const reservation = reservationOf(mac)
      if (reservation !== undefined && !holderOfReserved(mac, now)) return [reservation]
      const own = [byMac.get(mac)?.address, offerOf.get(mac), wanted && parseAddress(wanted)]
      const preferred = own.filter((address) => typeof address === 'number')
      // A machine that starts does not keep an address that is reserved for another one.
      const free = preferred.filter(isOfPool).filter((address) => {
        const standing = standingOf(address, mac, now)
        return standing !== undefined && standing.rank <= ranks.free
      })
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

/** FNV-1a: spreads machines over the range; the same machine always gets the same place. */
function hash(text: string): number {
  let value = 0x811c9dc5
  for (const byte of Buffer.from(text)) value = Math.imul(value ^ byte, 0x01000193) >>> 0
  return value
}
