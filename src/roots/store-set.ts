/** The store paths that a root shows: those of its image, and those of further images. */
import type { ImageTable } from './image-table.ts'
import { childAt } from './image-table.ts'
import type { PlacedStorePath, RootImage } from './root-image.ts'

/**
 * If a name is in several images, the first of them counts.
 *
 * @param isTaken whether a file outside the store paths has the name in /nix/store
 * @returns in the order of the bytes of their names
 */
export function uniteStorePaths(
  images: readonly Pick<RootImage, 'storePaths'>[],
  isTaken: (name: string) => boolean,
): PlacedStorePath[] {
  const byName = new Map<string, PlacedStorePath>()
  for (const { storePaths } of images) {
    for (const path of storePaths) {
      if (!byName.has(path.name) && !isTaken(path.name)) byName.set(path.name, path)
    }
  }
  return [...byName.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
}

/**
 * @param files the files outside the store paths
 * @param store the node of /nix/store in `files`
 * @returns as `ImageIndex.namesInStore`
 */
export function sortNamesInStore(
  storePaths: readonly PlacedStorePath[],
  files: ImageTable,
  store: number,
): Int32Array {
  const names: { name: Buffer; at: number }[] = storePaths.map(({ name }, at) => ({
    name: Buffer.from(name),
    at,
  }))
  for (let place = 0; ; place++) {
    const child = childAt(files, store, place)
    if (!child) break
    names.push({ name: child.name, at: -1 - place })
  }
  const sorted = names.sort((a, b) => a.name.compare(b.name))
  return Int32Array.from(sorted, ({ at }) => at)
}
