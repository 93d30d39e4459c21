// Checks the binary caches of tests with real Nix.

import assert from 'node:assert/strict'
import { mkdtemp, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ShapesClosure } from './closures.ts'
import {
  createNixWorld,
  runProgram,
  type Compression,
  type NixKey,
  type NixPathInfo,
  type NixWorld,
} from './real-nix.ts'

/** Makes a signed cache of the closure. Another world then copies all of it from the cache. */
export async function assertGivesBack(
  world: NixWorld,
  closure: ShapesClosure,
  key: NixKey,
  compression: Compression,
): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'netimage-nix-cache-'))
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
  await other.remove()
  await runProgram('rm', ['-r', directory])
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
