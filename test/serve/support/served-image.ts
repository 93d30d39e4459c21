// The smallest image for `netimage serve`: a made-up system with a script for iPXE.

import assert from 'node:assert/strict'
import { netimage, type Run } from '../../support/netimage.ts'
import { inventLargeSystem, inventSystem, makeKey, writeCache } from '../../support/synthetic.ts'
import type { Workspace } from '../../support/workspace.ts'

const key = makeKey('serve-1')
const { toplevel, kernel } = inventSystem('serve', [], [key])
/** Another system, with other store paths. */
const other = inventSystem('serve-other', [], [key])

/** @param nfsRoot as in `127.0.0.1:/srv/test,v3` @returns the image */
export async function buildServedImage(workspace: Workspace, nfsRoot: string): Promise<string> {
  writeCache(workspace.path('cache'), [toplevel, kernel, other.toplevel, other.kernel])
  const built = await buildTo(workspace, workspace.image, '--nfs-root', nfsRoot)
  assert.equal(built.status, 0, built.stderr)
  return workspace.image
}

/** Builds its system again. To be called after `buildServedImage`. */
export function buildTo(workspace: Workspace, image: string, ...flags: string[]): Promise<Run> {
  return build(workspace, toplevel.path, image, flags)
}

/** Builds the other system. To be called after `buildServedImage`. */
export function buildOtherTo(
  workspace: Workspace,
  image: string,
  ...flags: string[]
): Promise<Run> {
  return build(workspace, other.toplevel.path, image, flags)
}

/** Builds a system with many files in its store paths. To be called after `buildServedImage`. */
export async function buildManyTo(
  workspace: Workspace,
  image: string,
  ...flags: string[]
): Promise<Run> {
  const { toplevel: many, all } = inventLargeSystem('many', { paths: 20, bytes: 10, keys: [key] })
  writeCache(workspace.path('cache'), all)
  return await build(workspace, many, image, flags)
}

function build(
  { pool, path }: Workspace,
  system: string,
  image: string,
  flags: readonly string[],
): Promise<Run> {
  return netimage([
    ...['build', system, '--from', `file://${path('cache')}`, '-o', image],
    ...['--trusted-public-keys', key.publicKey, '--pool', pool, '--boot', 'ipxe', ...flags],
  ])
}

/** A file of its root tree that machines read, as the names of its path. */
export const servedFile = `${toplevel.path}/nixos-version`.slice(1).split('/')
