// Images for a fleet that boots from `netimage serve`. Each file of an image tells which image it is.

import { join } from 'node:path'
import { buildNetImage } from '../../../src/index.ts'
import { blessUnit, candidateOf } from '../../../src/site/candidate.ts'
import { addImage } from '../../../src/site/images/add-image.ts'
import type { Candidate } from '../../../src/site/life/life.ts'
import { cachedPath, inventPath, makeKey, writeCache, type Tree } from '../../support/synthetic.ts'
import type { Workspace } from '../../support/workspace.ts'

/** The path that machines mount. */
export const fleetRoot = '/srv/fleet'
/** A file outside the store that has the mark of its image. */
export const markFile = ['etc', 'mark'] as const

const key = makeKey('fleet-1')

/** What machines are given, and the mark in its files. */
export interface MarkedImage extends Candidate {
  mark: string
}

/**
 * Adds images to a site.
 *
 * @param count of images whose systems tell that they are up, and as many that do not
 */
export async function addFleetImages(
  workspace: Workspace,
  state: string,
  count: number,
): Promise<MarkedImage[]> {
  const images: MarkedImage[] = []
  for (let number = 0; number < count; number++) {
    for (const blesses of [true, false]) {
      const mark = `${number}-${blesses}`
      const directory = await build(workspace, mark, blesses)
      const { image } = await addImage(state, directory)
      images.push({ ...(await candidateOf(image)), mark })
      image.release()
    }
  }
  return images
}

async function build(workspace: Workspace, mark: string, blesses: boolean): Promise<string> {
  const kernel = inventPath(`linux-${mark}`)
  const toplevel = inventPath(`nixos-system-fleet-${mark}`)
  const unit = blessUnit
    .split('/')
    .reduceRight<Tree>((tree, name) => ({ directory: { [name]: tree } }), { file: '[Unit]\n' })
  const files: Record<string, Tree> = {
    init: { file: mark, executable: true },
    kernel: { link: `${kernel}/bzImage` },
    initrd: { link: `${kernel}/initrd` },
    'nixos-version': { file: mark },
    system: { file: 'x86_64-linux' },
    'kernel-params': { file: 'console=ttyS0' },
    ...(blesses && 'directory' in unit && unit.directory),
  }
  const boot: Tree = { directory: { bzImage: { file: mark }, initrd: { file: mark } } }
  const cache = workspace.path('cache')
  writeCache(cache, [
    cachedPath(kernel, boot, { keys: [key] }),
    cachedPath(toplevel, { directory: files }, { references: [kernel], keys: [key] }),
  ])
  const output = workspace.path(`image-${mark}`)
  await buildNetImage({
    ...{ system: toplevel, from: [`file://${cache}`], trustedPublicKeys: [key.publicKey] },
    ...{ pool: workspace.pool, output, boot: ['ipxe'] },
    options: {
      nfsRoot: `127.0.0.1:${fleetRoot},v3`,
      rootDirectoryName: 'root',
      populateRootCommands: `mkdir -p files/etc; printf ${mark} > ${join('files', ...markFile)}`,
    },
  })
  return output
}
