/** What `netimage check` finds in an image of a site. */
import { checkSystem, type CheckFinding } from '../../check/check-system.ts'
import { baseNameOf } from '../../nix/store-path.ts'
import type { SiteImage } from '../images/site-image.ts'

/** @param silenced names of rules that are left out */
export async function checkSiteImage(
  { system, closure, publicPaths, options, manifest, bootTree, rootImage }: SiteImage,
  silenced: readonly string[],
): Promise<CheckFinding[]> {
  const places = new Map(rootImage.storePaths.map(({ name, at }) => [name, at]))
  return await checkSystem({
    ...{ system, closure, publicPaths, silenced },
    treeOf: (path) => Promise.resolve(places.get(baseNameOf(path))),
    nfsRoot: options.nfsRoot,
    image: { bootTree, bootFiles: manifest.boot.files, rootFiles: manifest.root.files },
  })
}
