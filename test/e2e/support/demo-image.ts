// Images of the demo system, and roots for machines that boot it.

import { mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import {
  buildDemoSystem,
  type DemoSystem,
  type DemoSystemName,
  type DemoSystemOptions,
} from '../../../demo/system/build.ts'
import { buildNetImage, type BuildRequest, type Manifest } from '../../../src/index.ts'
import { runProgram } from '../../support/real-nix.ts'
import { cacheDirectory } from './cache.ts'

export type DemoImage = {
  demo: DemoSystem
  image: string
  manifest: Manifest
  rootTree: string
  bootTree: string
}

/** The device of the root in the fstab of the demo system. */
export const rootDevice = '10.66.0.1:/srv/alpha'

/**
 * Changes of the demo system, for machines that need not start it: only the beginnings of its kernel
 * and its initrd. Emulated firmware needs most of its time to fetch these files.
 */
export const small = { changes: { kernelBytes: '1000000', initrdBytes: '100000' } }

/**
 * Builds the demo system with real Nix. If it was built before, nothing is done.
 *
 * @param other another root for its fstab, or other changes
 */
export async function buildBootableSystem(
  system: DemoSystemName,
  other: Pick<DemoSystemOptions, 'rootDevice' | 'rootOptions' | 'changes'> = {},
): Promise<DemoSystem> {
  return await buildDemoSystem({
    system,
    cacheDirectory: cacheDirectory('demo-downloads'),
    worldDirectory: cacheDirectory('demo-nix'),
    rootDevice,
    ...other,
  })
}

/** Builds an image of the demo system at the path `image`. All images share one pool. */
export async function buildDemoImage(
  demo: DemoSystem,
  image: string,
  { options, ...request }: Pick<BuildRequest, 'boot' | 'bootSettings' | 'options'> = {},
): Promise<DemoImage> {
  mkdirSync(dirname(image), { recursive: true })
  const { manifest } = await buildNetImage({
    ...request,
    system: demo.toplevel,
    from: [demo.storeRoot],
    checkSignatures: false,
    options: { nfsRoot: `${rootDevice},v3`, ...options },
    output: image,
    pool: cacheDirectory('demo-pool'),
  })
  const trees = join(image, 'net-image')
  const rootTree = join(trees, manifest.options.rootDirectoryName)
  return { demo, image, manifest, rootTree, bootTree: join(trees, 'boot') }
}

/** Machines write to their roots, so each machine boots from its own copy. */
export async function copyRootTree({ rootTree }: DemoImage, copy: string): Promise<string> {
  await runProgram('cp', ['-a', '--reflink=auto', rootTree, copy])
  return copy
}
