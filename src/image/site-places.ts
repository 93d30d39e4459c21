/**
 * The places of images in a site.
 *
 * ```
 * <state>/images/<id>/              an image without its store paths; <id> is the hash of its manifest
 * <state>/images/.new-<random>/     unfinished; `lock` in it is held as long as somebody works there
 * <state>/images/.coming-<id>       the manifest of an image that comes from another server
 * <state>/store/<nar hash>          a store path; all images that have it share it
 * <state>/store/.new-<nar hash>     unfinished; `.new-<random>-<nar hash>` by who works in `.new-<random>`
 * <state>/images.lock               held while images and store paths are added or removed
 * …/.removed-<random>               no longer part of the site
 * ```
 *
 * Each image and each store path gets its name by one rename, when it is whole and on the disk, and
 * never changes afterwards.
 */
import { basename, dirname, join } from 'node:path'

import { digestToBase32, type Hash } from '../nix/hash.ts'

export interface SitePlaces {
  images: string
  store: string
  lock: string
}

export function sitePlaces(state: string): SitePlaces {
  return {
    images: join(state, 'images'),
    store: join(state, 'store'),
    lock: join(state, 'images.lock'),
  }
}

/** The absolute path of a store path with this NAR hash. */
export function storedAt({ store }: SitePlaces, narHash: Hash): string {
  return join(store, digestToBase32(narHash))
}

const idPattern = /^[0-9a-f]{64}$/

export function isImageId(name: string): boolean {
  return idPattern.test(name)
}

/**
 * @param image the directory of an image
 * @param id the hash of its manifest
 * @returns the places of the site that has the image; undefined if it is an image that `build` made
 */
export function siteOfImage(image: string, id: string): SitePlaces | undefined {
  const folder = dirname(image)
  const isOfSite = basename(image) === id && basename(folder) === 'images'
  return isOfSite ? sitePlaces(dirname(folder)) : undefined
}
