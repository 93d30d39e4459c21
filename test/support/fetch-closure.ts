// Fetches a closure as a build does, without the rest of a build. All tests of a file can share the
// worker threads, because their start takes longer than the work for a small closure.

import assert from 'node:assert/strict'
import { after, before } from 'node:test'
import { resolveClosure, type Closure, type StoreAccess } from '../../src/nix/closure.ts'
import { parsePublicKey } from '../../src/nix/signature.ts'
import { toStorePath } from '../../src/nix/store-path.ts'
import { openStore, type OpenStoreOptions } from '../../src/nix/stores/open.ts'
import { fillPool } from '../../src/pool/fill.ts'
import { openPool, type Pool } from '../../src/pool/pool.ts'
import { startWorkers, type Workers } from '../../src/pool/workers.ts'
import { silentProgress } from '../../src/progress.ts'

export type ClosureRequest = {
  root: string
  /** The URLs of the stores. */
  from: readonly string[]
  pool: string
  trustedPublicKeys?: readonly string[]
  checkSignatures?: boolean
} & Pick<OpenStoreOptions, 'wait' | 'warn'>

/** Starts worker threads before the tests of a file, and ends them afterwards. */
export function closureFetcher(): (request: ClosureRequest) => Promise<Closure> {
  let workers: Workers | undefined
  before(() => {
    workers = startWorkers(new AbortController().signal)
  })
  after(() => workers?.close())
  return (request) => {
    assert.ok(workers)
    return fetchClosure(request, workers)
  }
}

/** Fills the pool, and hashes all trees there once more. */
async function fetchClosure(request: ClosureRequest, workers: Workers): Promise<Closure> {
  const { root, from, trustedPublicKeys = [], checkSignatures = true } = request
  const { warn = () => undefined, wait } = request
  const { signal } = new AbortController()
  const wanted = toStorePath(root)
  assert.ok(wanted)
  const stores = await Promise.all(from.map((url) => openStore(url, { env: {}, warn, wait })))
  const policy = { keys: trustedPublicKeys.map(parsePublicKey), checkSignatures }
  const access: StoreAccess = { stores, policy, failed: new Map(), warn }
  let pool: Pool | undefined
  try {
    const found = await resolveClosure([wanted], access, signal, () => undefined)
    pool = await openPool(request.pool, warn, signal)
    const progress = { ...silentProgress, warn }
    const closure = await fillPool(found.values(), { access, pool, workers, signal, progress })
    for (const { info } of closure.values()) {
      const { narHash, narSize } = info
      const tree = pool.treePath(info)
      assert.ok(await workers.run({ kind: 'check', tree, narHash, narSize }), info.path)
    }
    return closure
  } finally {
    await Promise.all(stores.map((store) => store.close()))
    pool?.close()
  }
}
