// Two images of made-up systems for tests of sites. They differ in one store path.

import { cpSync } from 'node:fs'
import { buildNetImage } from '../../../../src/index.ts'
import { addImage } from '../../../../src/site/images/add-image.ts'
import { inventLargeSystem, makeKey, writeCache } from '../../../support/synthetic.ts'
import type { Workspace } from '../../../support/workspace.ts'

const key = makeKey('site-1')
const size = { paths: 6, bytes: 20_000, keys: [key] }
export const systems = {
  first: inventLargeSystem('first', size),
  second: inventLargeSystem('second', size),
}
export type SystemName = keyof typeof systems

/** How many store paths each of the images has. */
export const pathsOfEach = systems.first.all.length

/** Files outside the store of each kind, with a hard link and a name that is not UTF-8. */
const populate = [
  'mkdir -p files/etc/sub',
  'echo pi > files/etc/name; chmod 4751 files/etc/name; ln files/etc/name files/etc/sub/same',
  'ln -s name files/etc/link; printf x > "$(printf "files/odd\\377")"',
].join('\n')

export function writeSystems(workspace: Workspace): void {
  writeCache(workspace.path('cache'), [...systems.first.all, ...systems.second.all])
}

/** Flags of `build` for one of the systems. */
export function flagsFor(workspace: Workspace): string[] {
  return [
    ...['--from', `file://${workspace.path('cache')}`, '--pool', workspace.pool],
    ...['--trusted-public-keys', key.publicKey, '--boot', 'ipxe'],
  ]
}

/** To be called after `writeSystems`. */
export async function buildSystem(
  workspace: Workspace,
  name: SystemName,
  image: string,
  force = false,
  /** Commands that add or change files outside the store. */
  more = '',
): Promise<string> {
  await buildNetImage({
    system: systems[name].toplevel,
    from: [`file://${workspace.path('cache')}`],
    trustedPublicKeys: [key.publicKey],
    pool: workspace.pool,
    output: image,
    force,
    boot: ['ipxe'],
    options: { rootDirectoryName: 'root', populateRootCommands: `${populate}\n${more}` },
  })
  return image
}

/** Builds a system and adds its image. To be called after `writeSystems`. @returns the id of the image */
export async function addSystem(
  workspace: Workspace,
  name: SystemName,
  site: string,
): Promise<string> {
  const { image } = await addImage(
    site,
    await buildSystem(workspace, name, workspace.path('out', name)),
  )
  image.release()
  return image.id
}

export function copyImage(image: string, copy: string): string {
  cpSync(image, copy, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true })
  return copy
}
