// Checks the binary caches of tests with real Nix.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ShapesClosure } from './closures.ts'
import {
  createNixWorld,
  type Compression,
  type NixKey,
  type NixPathInfo,
  type NixWorld,
} from './real-nix.ts'
import { temporaryDirectory } from './temporary.ts'

/** Makes a signed cache of the closure. Another world then copies all of it from the cache. */
export async function assertGivesBack(
  world: NixWorld,
  closure: ShapesClosure,
  key: NixKey,
  compression: Compression,
): Promise<void> {
  const directory = temporaryDirectory()
  const cache = join(directory, 'cache')
  const { secretKeyFile } = key
  await world.copyToCache([closure.everything], cache, { compression, secretKeyFile })
  const hashPart = closure.everything.slice('/nix/store/'.length).slice(0, 32)
  const narinfo = await readFile(join(cache, `${hashPart}.narinfo`), 'utf8')
  assert.match(narinfo, new RegExp(`^Compression: ${compression}$`, 'm'))
  assert.match(narinfo, /^Sig: test-1:/m)

  const trustedPublicKeys = [key.publicKey]
  const other = await createNixWorld(join(directory, 'other'), { trustedPublicKeys })
  await other.copyFromCache([closure.everything], cache)
  await other.nixStore(['--verify', '--check-contents'])
  assert.deepEqual(
    contents(await other.pathInfo(closure.paths)),
    contents(await world.pathInfo(closure.paths)),
  )
}

function contents(infos: NixPathInfo[]) {
  return infos
    .map(({ path, narHash, narSize, references, ca }) => ({
      path,
      narHash,
      narSize,
      references: references.toSorted(),
      ca: ca ?? undefined,
    }))
    .toSorted((a, b) => (a.path < b.path ? -1 : 1))
}
