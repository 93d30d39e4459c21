/**
 * Images that come from another server. Until such an image is in the site, nothing but its mark keeps
 * the store paths that came already: the manifest of the image, in a file.
 *
 * A mark counts for a day after it was last renewed. So a push that was cut off can go on after the
 * store paths of other images were removed, and a push that never goes on keeps nothing for ever.
 */
import { hash } from 'node:crypto'
import { readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { parseManifest } from '../../image/manifest.ts'
import { isImageId, type SitePlaces } from '../../image/site-places.ts'
import type { PathInfo } from '../../nix/path-info.ts'
import { removeTree, type OnFreed } from '../../remove-tree.ts'

const coming = '.coming-'
const dayMs = 24 * 60 * 60_000

function markAt({ images }: SitePlaces, id: string): string {
  return join(images, coming + id)
}

/** Only inside `whileChanging`. @param id the hash of the manifest */
export function markComing(places: SitePlaces, id: string, manifestBytes: Buffer): void {
  writeFileSync(markAt(places, id), manifestBytes)
}

/** To be called again and again while the image comes. */
export function renewComing(places: SitePlaces, id: string): void {
  const now = new Date()
  const mark = markAt(places, id)
  // It is gone if somebody else has added the image meanwhile.
  if (statSync(mark, { throwIfNoEntry: false })) utimesSync(mark, now, now)
}

export function unmarkComing(places: SitePlaces, id: string): void {
  rmSync(markAt(places, id), { force: true })
}

/** @param name of a file in `images` @returns the image that this is the mark of; undefined for other files */
function markedBy(name: string): string | undefined {
  const id = name.slice(coming.length)
  return name.startsWith(coming) && isImageId(id) ? id : undefined
}

/** Removes the marks that do not count any more. Only inside `whileChanging`. */
export function forgetOldMarks(places: SitePlaces, onFreed?: OnFreed): void {
  for (const name of readdirSync(places.images)) {
    const id = markedBy(name)
    if (id === undefined) continue
    const { mtimeMs } = statSync(join(places.images, name))
    // The clock may have been set back since.
    const isOld = Math.abs(Date.now() - mtimeMs) > dayMs
    const isInSite = statSync(join(places.images, id), { throwIfNoEntry: false }) !== undefined
    if (isOld || isInSite) removeTree(join(places.images, name), onFreed)
  }
}

/** The store paths of the images that come. Only inside `whileChanging`. */
export function comingPaths(places: SitePlaces): PathInfo[] {
  return readdirSync(places.images).flatMap((name) => {
    const id = markedBy(name)
    if (id === undefined) return []
    const file = join(places.images, name)
    const bytes = readFileSync(file)
    // After a loss of power, it can be cut off.
    return hash('sha256', bytes) === id ? [...parseManifest(bytes.toString(), file).closure] : []
  })
}
