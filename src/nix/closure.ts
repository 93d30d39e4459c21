/**
 * Closures: the path infos of all paths that some store paths refer to, directly or not. Each info
 * is trusted, and comes from the first store that has it.
 */
import pLimit from 'p-limit'

import { explained, NetimageError } from '../errors.ts'
import type { PathInfo } from './path-info.ts'
import { compareStorePaths, type StorePath } from './store-path.ts'
import type { Store, StoredPath } from './stores/store.ts'
import { isContentAddressed, isTrusted, type TrustPolicy } from './trust.ts'

/** The stores to ask, in this order, and the rules for trusting their answers. */
export interface StoreAccess {
  stores: readonly Store[]
  policy: TrustPolicy
  /**
   * The stores that failed as a whole, and why. We warn once about such a store, and do not ask it
   * again as long as another store has the paths.
   */
  failed: Map<Store, NetimageError>
  /** Gets a message about each store that failed while the others still work. */
  warn(message: string): void
}

export interface ClosurePath {
  info: PathInfo
  stored: StoredPath
  store: Store
}

/** In the order of the store paths. */
export type Closure = ReadonlyMap<StorePath, ClosurePath>

export function closureInfos(closure: Closure): PathInfo[] {
  return [...closure.values()].map(({ info }) => info)
}

const lookupsAtOnce = 32
/** A hundred times a large system. A larger closure was made to fill our memory. */
const maxPaths = 500_000

/** @param found gets each path when it is found */
export async function resolveClosure(
  roots: readonly StorePath[],
  access: StoreAccess,
  signal: AbortSignal,
  found: (info: PathInfo) => void,
): Promise<Closure> {
  const paths = new Map<StorePath, ClosurePath>()
  const seen = new Set<StorePath>()
  const limit = pLimit(lookupsAtOnce)
  let stopped = false

  async function visit(path: StorePath, referrer: StorePath | undefined): Promise<void> {
    if (seen.has(path) || stopped) return
    if (seen.size >= maxPaths) {
      throw new NetimageError('bad-store', `the closure has more than ${maxPaths} paths`, {
        details: { path, expected: maxPaths },
      })
    }
    seen.add(path)
    const entry = await limit(() => {
      signal.throwIfAborted()
      return findPath(path, referrer, access)
    })
    paths.set(path, entry)
    found(entry.info)
    await Promise.all(entry.info.references.map((reference) => visit(reference, path)))
  }

  try {
    await Promise.all(roots.map((root) => visit(root, undefined)))
  } catch (error) {
    stopped = true
    limit.clearQueue()
    throw error
  }
  const sorted = [...paths].sort(([a], [b]) => compareStorePaths(a, b))
  const closure = new Map(sorted)
  refuseCycles(closure)
  return closure
}

async function findPath(
  path: StorePath,
  referrer: StorePath | undefined,
  access: StoreAccess,
): Promise<ClosurePath> {
  const failures: NetimageError[] = []
  const untrusted: string[] = []
  for (const store of access.stores) {
    const failed = access.failed.get(store)
    if (failed) {
      failures.push(failed)
      continue
    }
    try {
      const stored = await store.lookup(path)
      if (!stored) continue
      if (isTrusted(stored.info, store.trusted, access.policy)) {
        return { info: stored.info, stored, store }
      }
      untrusted.push(`${store.url} (${describeSignatures(stored.info)})`)
    } catch (error) {
      if (!(error instanceof NetimageError) || error.code === 'interrupted') throw error
      failures.push(error)
      if (isOfWholeStore(error)) giveUp(store, error, access)
    }
  }
  throw notFound(path, referrer, access, failures, untrusted)
}

function isOfWholeStore(error: NetimageError): boolean {
  return error.code === 'store-unavailable' || error.code === 'bad-store'
}

/** Stops asking a store, because each further request would take as long to fail. Warns once. */
export function giveUp(store: Store, failure: NetimageError, access: StoreAccess): void {
  if (access.failed.has(store)) return
  access.failed.set(store, failure)
  access.warn(`${failure.message}; continuing without ${store.url}`)
}

function describeSignatures({ signatures }: PathInfo): string {
  const names = signatures.map((signature) => signature.slice(0, signature.indexOf(':')))
  return names.length > 0 ? `signed by ${names.join(', ')}` : 'not signed'
}

function notFound(
  path: StorePath,
  referrer: StorePath | undefined,
  { stores, policy }: StoreAccess,
  failures: NetimageError[],
  untrusted: string[],
): NetimageError {
  const what = referrer ? `${path}, which ${referrer} refers to,` : path
  const details = { path, ...(referrer && { referrer }), stores: stores.map(({ url }) => url) }
  if (untrusted.length > 0) {
    const keys = policy.keys.map((key) => key.name).join(', ') || 'none'
    return new NetimageError(
      'untrusted-path',
      `${what} has no signature by a trusted key: found in ${untrusted.join(', ')}; trusted: ${keys}`,
      {
        hint: 'Name the key of this store with --trusted-public-keys, or accept unsigned paths at your own risk with --no-check-sigs.',
        details: { ...details, expected: keys },
      },
    )
  }
  const asked = stores.map((store) => store.url).join(', ') || 'none'
  const [failure] = failures
  if (failure) {
    return explained(
      failure,
      `could not find ${what} in any store (asked: ${asked}): ${failure.message}`,
      details,
    )
  }
  return new NetimageError('path-not-found', `no store has ${what} (asked: ${asked})`, {
    hint: 'Name a store that has it with --from, or build it first.',
    details,
  })
}

/**
 * Looks for the same path in the next stores, if the NAR could not be fetched from the first one.
 * The other store must have the same NAR, because another build of the path might refer to other
 * paths. Content-addressed paths are an exception: their path fixes the content and the references.
 *
 * @returns undefined if no other store has the path
 */
export async function alternative(
  entry: ClosurePath,
  access: StoreAccess,
): Promise<ClosurePath | undefined> {
  const rest = access.stores.slice(access.stores.indexOf(entry.store) + 1)
  for (const store of rest.filter((store) => !access.failed.has(store))) {
    const stored = await lookupIn(store, entry.info.path, access)
    if (!stored || !isTrusted(stored.info, store.trusted, access.policy)) continue
    const { narHash, narSize } = stored.info
    if (narHash.hex !== entry.info.narHash.hex && !isContentAddressed(entry.info)) continue
    return { info: { ...entry.info, narHash, narSize }, stored, store }
  }
  return undefined
}

/** If this lookup fails, the next store is asked. */
async function lookupIn(
  store: Store,
  path: StorePath,
  access: StoreAccess,
): Promise<StoredPath | undefined> {
  try {
    return await store.lookup(path)
  } catch (error) {
    if (!(error instanceof NetimageError) || error.code === 'interrupted') throw error
    if (isOfWholeStore(error)) giveUp(store, error, access)
    return undefined
  }
}

/** Nix registers no cycles of references, except that a path may refer to itself. */
function refuseCycles(closure: Closure): void {
  const waitingFor = new Map<StorePath, number>()
  const referrers = new Map<StorePath, StorePath[]>()
  for (const [path, { info }] of closure) {
    const others = info.references.filter((reference) => reference !== path)
    waitingFor.set(path, others.length)
    for (const reference of others) {
      const list = referrers.get(reference)
      if (list) list.push(path)
      else referrers.set(reference, [path])
    }
  }
  const ready = [...waitingFor].filter(([, count]) => count === 0).map(([path]) => path)
  for (let path = ready.pop(); path !== undefined; path = ready.pop()) {
    waitingFor.delete(path)
    for (const referrer of referrers.get(path) ?? []) {
      const count = (waitingFor.get(referrer) ?? 0) - 1
      waitingFor.set(referrer, count)
      if (count === 0) ready.push(referrer)
    }
  }
  const [stuck] = waitingFor.keys()
  if (stuck === undefined) return
  throw new NetimageError(
    'bad-store',
    `the references of ${stuck} lead in a circle among ${waitingFor.size} paths`,
    {
      hint: 'A real Nix store never has such references: the store is broken or hostile.',
      details: { path: stuck },
    },
  )
}
