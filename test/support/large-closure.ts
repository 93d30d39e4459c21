// Builds of large closures of different kinds, and checks of the memory that they use.

import assert from 'node:assert/strict'
import { startFakeCache } from './fake-cache.ts'
import { compressZeros } from './large-nar.ts'
import { measureNetimage, memoryBound, type Measured } from './measure.ts'
import { cachedPath, cacheFiles, inventPath, inventSystem, makeKey } from './synthetic.ts'
import type { CachedPath, Tree } from './synthetic.ts'
import { makeWorkspace, type Workspace } from './workspace.ts'

const key = makeKey('large-1')

/** Builds and verifies a system that refers to these paths. Both must stay below the limit. */
export async function buildWithin(
  paths: CachedPath[],
  { directory, link = 'hardlink' }: { directory?: string; link?: 'hardlink' | 'copy' } = {},
  then: (workspace: Workspace, build: Measured) => void = () => undefined,
): Promise<void> {
  const system = inventSystem(
    'large',
    paths.map(({ path }) => path),
    [key],
  )
  const workspace = makeWorkspace('large', directory)
  const cache = await startFakeCache(cacheFiles([system.toplevel, system.kernel, ...paths]))
  try {
    const common = { cwd: workspace.directory }
    const build = await measureNetimage(
      [
        ...['build', system.toplevel.path, '--from', cache.url, '-o', workspace.image],
        ...['--pool', workspace.pool, '--trusted-public-keys', key.publicKey, '--link', link],
      ],
      common,
    )
    assert.equal(build.status, 0, build.stderr)
    assertWithin(build)
    const verify = await measureNetimage(['verify', workspace.image], common)
    assert.equal(verify.status, 0, verify.stderr)
    assertWithin(verify)
    then(workspace, build)
  } finally {
    await cache.close()
    workspace.remove()
  }
}

function assertWithin({ peakBytes }: Measured): void {
  assert.ok(peakBytes < memoryBound, `it held ${Math.round(peakBytes / 2 ** 20)} MB`)
}

/** A path with one file of zeros. */
export async function pathOfZeros(name: string, bytes: number): Promise<CachedPath> {
  const { narHash, narSize, file, fileHash } = await compressZeros(bytes)
  const path = cachedPath(inventPath(name), Buffer.alloc(0), { keys: [key] })
  return { ...path, narHash, narSize, file, fileHash, fileSize: file.length }
}

export function pathOf(name: string, tree: Tree): CachedPath {
  return cachedPath(inventPath(name), tree, { keys: [key] })
}

export function smallPath(index: number): CachedPath {
  const directory = { file: { file: `small ${index}\n` }, link: { link: 'file' } }
  return pathOf(`small-${index}`, { directory })
}
