/**
 * Which IP address uses the name of a machine. Two machines can have the same hardware address, and
 * so the same name. They must not write to one root, so the name belongs to the first one.
 *
 * It may also be one machine, which started again with another address: then nobody answers at its
 * old address, and the connections from there end after some seconds. So a second machine waits, and
 * is refused once it is sure that the first one is alive.
 */
import type { Caller } from '../protocols/rpc/program.ts'
import { remember } from '../remember.ts'

export interface Holders {
  /** @returns whether the name belongs to the caller's address; it does from now on if it is free */
  hold(name: string, caller: Caller): boolean
  /** The address of the machine that has the name, if this is not `address`. */
  otherThan(name: string, address: string): string | undefined
  /**
   * Whether a machine that wants the name must be refused, because the first one is alive.
   *
   * @param address of the machine that wants the name; undefined: it has none, because it boots
   */
  isAlive(name: string, address: string | undefined): boolean
  /** The connection has ended. */
  leave(name: string, caller: Caller): void
  /** The address that has the name. */
  addressOf(name: string): string | undefined
  /** Whether the machine has called in the last seconds. */
  isActive(name: string): boolean
  /** Whether the machine has connections other than this one. */
  isHeld(name: string, besides: Caller | undefined): boolean
}

interface Holder {
  address: string
  /** Its connections, with the times of their first and last calls. */
  callers: Map<Caller, { first: number; last: number }>
  /** By the addresses of the machines that want the name. */
  contests: Map<string, Contest>
}

/** A machine wants the name that another address has. Times in milliseconds. */
interface Contest {
  since: number
  last: number
}

/** The last calls of a machine that lost its power may be handled after its next start began. */
const lateMs = 1000
/** If its connections still exist after this time, the first machine answers. See `Caller.probe`. */
const sureMs = 30_000
/** A machine that has not asked for this long has given up. Its next request begins anew. */
const overMs = 60_000
/** No machine starts again in this time: a machine that has called since then runs. */
const activeMs = 3000
const maxContests = 16
/** In place of the address of a machine that boots. */
const bootsByDhcp = 'boot'

/** @param isSilent whether the kernel gets no answer from an address */
export function createHolders(isSilent: (address: string) => boolean, now: () => number): Holders {
  const holders = new Map<string, Holder>()

  function find(name: string): Holder | undefined {
    const holder = holders.get(name)
    return holder && !isSilent(holder.address) ? holder : undefined
  }

  function contest(holder: Holder, by: string): Contest {
    const time = now()
    const known = holder.contests.get(by)
    const isOver = !known || time - known.last > overMs
    if (isOver) for (const caller of holder.callers.keys()) caller.probe?.()
    const contest = { since: isOver ? time : known.since, last: time }
    remember(holder.contests, by, contest, maxContests)
    return contest
  }

  return {
    hold(name, caller) {
      const { address } = caller
      let holder = holders.get(name)
      if (holder?.address !== address && !find(name)) holder = undefined
      holder ??= { address, callers: new Map(), contests: new Map() }
      if (holder.address !== address) {
        contest(holder, address)
        return false
      }
      holders.set(name, holder)
      const time = now()
      const calls = holder.callers.get(caller)
      if (calls) calls.last = time
      else holder.callers.set(caller, { first: time, last: time })
      return true
    },
    otherThan(name, address) {
      const holder = find(name)
      return holder && holder.address !== address ? holder.address : undefined
    },
    isAlive(name, address) {
      const holder = find(name)
      if (!holder || holder.address === address) return false
      const { since } = contest(holder, address ?? bootsByDhcp)
      // Later connections may be of the machine that wants the name: it has the same address now.
      const hasCalled = [...holder.callers.values()].some(
        ({ first, last }) => first <= since && last - since > lateMs,
      )
      // A machine that boots asks only now and then, so its questions do not end the waiting.
      return hasCalled || (address !== undefined && now() - since > sureMs)
    },
    leave(name, caller) {
      const holder = holders.get(name)
      if (holder?.callers.delete(caller) && holder.callers.size === 0) holders.delete(name)
    },
    addressOf: (name) => holders.get(name)?.address,
    isActive(name) {
      const calls = [...(holders.get(name)?.callers.values() ?? [])]
      return calls.some(({ last }) => now() - last < activeMs)
    },
    isHeld(name, besides) {
      const callers = holders.get(name)?.callers.keys() ?? []
      return [...callers].some((caller) => caller !== besides)
    },
  }
}
