/**
 * Closures: the path infos that are reachable from some store paths, each trusted, from whatever
 * store has it first.
 */
import pLimit from 'p-limit'

import { NetimageError } from '../errors.ts'
import type { PathInfo } from './path-info.ts'
import { compareStorePaths, type StorePath } from './store-path.ts'
import type { Store, StoredPath } from './stores/store.ts'
import { isContentAddressed, isTrusted, type TrustPolicy } from './trust.ts'

/** The stores to ask, in this order, and what to believe of them. */
export interface StoreAccess {
  stores: readonly Store[]
  policy: TrustPolicy
  /** Told of a store that fails while another can stand in for it. */
  warn(message: string): void
}

export interface ClosurePath {
  info: PathInfo
  stored: StoredPath
  store: Store
}

/** In the order of the store paths. */
export type Closure = ReadonlyMap<StorePath, ClosurePath>

const lookupsAtOnce = 32
/** A hundred times a large system: what is larger was made to fill the memory. */
const maxPaths = 500_000

/** @param found told of each path as it is found */
export async function resolveClosure(
  roots: readonly StorePath[],
  access: StoreAccess,
  signal: AbortSignal,
  found: (info: PathInfo) => void,
): Promise<Closure> {
  const paths = new Map<StorePath, ClosurePath>()
  const seen = new Set<StorePath>()
  const limit = pLimit(lookupsAtOnce)
  const failedStores = new Map<Store, NetimageError>()
  let stopped = false

  async function visit(path: StorePath, referrer: StorePath | undefined): Promise<void> {
    if (seen.has(path) || stopped) return
    if (seen.size >= maxPaths) {
      throw new NetimageError('bad-store', `the closure has more than ${maxPaths} paths`)
    }
    seen.add(path)
    const entry = await limit(() => {
      signal.throwIfAborted()
      return findPath(path, referrer, access, failedStores)
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
  failedStores: Map<Store, NetimageError>,
): Promise<ClosurePath> {
  const failures: NetimageError[] = []
  const untrusted: string[] = []
  for (const store of access.stores) {
    const failed = failedStores.get(store)
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
      if (!isOfWholeStore(error)) continue
      // Its next answer would take as long to fail.
      if (!failedStores.has(store)) access.warn(`${error.message}; going on without ${store.url}`)
      failedStores.set(store, error)
    }
  }
  throw notFound(path, referrer, access, failures, untrusted)
}

function isOfWholeStore(error: NetimageError): boolean {
  return error.code === 'store-unavailable' || error.code === 'bad-store'
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
  if (untrusted.length > 0) {
    const keys = policy.keys.map((key) => key.name).join(', ') || 'none'
    return new NetimageError(
      'untrusted-path',
      `${what} has no signature by a trusted key: found in ${untrusted.join(', ')}; trusted: ${keys}`,
      {
        hint: 'Name the key that signs this store with --trusted-public-keys, or take the risk with --no-check-sigs.',
      },
    )
  }
  const asked = stores.map((store) => store.url).join(', ') || 'none'
  const [failure] = failures
  if (failure) {
    return new NetimageError(
      failure.code,
      `could not find ${what} in any store (asked: ${asked}): ${failure.message}`,
      { cause: failure, ...(failure.hint !== undefined && { hint: failure.hint }) },
    )
  }
  return new NetimageError('path-not-found', `no store has ${what} (asked: ${asked})`, {
    hint: 'Name a store that has it with --from, or build it first.',
  })
}

/**
 * The same path in the next store that has it, for when the NAR of the one before turns out to be
 * bad. Only the same NAR counts, since another build of the path might refer to other paths; unless
 * the path follows from its content, and so do its references.
 */
export async function alternative(
  entry: ClosurePath,
  access: StoreAccess,
): Promise<ClosurePath | undefined> {
  const rest = access.stores.slice(access.stores.indexOf(entry.store) + 1)
  for (const store of rest) {
    const stored = await store.lookup(entry.info.path).catch(() => undefined)
    if (!stored || !isTrusted(stored.info, store.trusted, access.policy)) continue
    const { narHash, narSize } = stored.info
    if (narHash.hex !== entry.info.narHash.hex && !isContentAddressed(entry.info)) continue
    return { info: { ...entry.info, narHash, narSize }, stored, store }
  }
  return undefined
}

/** Nix registers no paths that refer to each other; only a path's reference to itself is allowed. */
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
    { hint: 'No real Nix store has that: the store that says so is broken or lies.' },
  )
}
