/** The systems that machines boot: their boot files, and the images of their roots. */
import { basename, join } from 'node:path'

import { bootParts, type BootPart } from '../boots/boot-parts.ts'
import { findLoaders, type Loaders } from '../boot/loaders.ts'
import { processorOfProgram } from '../boot/pe.ts'
import { asNetimageError, fileSystemError, NetimageError } from '../errors.ts'
import type { Manifest } from '../image/manifest.ts'
import { parseNfsRoot } from '../nixos/nfs-root.ts'
import { createImageIndexes, type ImageIndex } from '../roots/image-index.ts'
import type { KeptImage } from '../roots/bound-image.ts'
import { isPassing } from '../roots/failure.ts'
import { openSiteImage, type SiteImage } from '../site/images/site-image.ts'
import type { PublishImage } from '../site/publish/boot-tree.ts'
import { openPublished, publishedOf } from '../site/publish/published.ts'
import type { CurrentAttempt } from '../site/site.ts'

export interface OpenSystem {
  /** The image whose files outside the store the machine sees. */
  image: { id: string; directory: string; name: string; toplevel: string }
  /** The images of other generations, whose store paths the machine sees as well. */
  keptImages: readonly KeptImage[]
  toplevel: string
  /** As Nix names it: `aarch64-linux`. */
  platform: string
  bootTree: string
  /** The path that machines mount: absolute, without a slash at its end. */
  rootPath: string
  loaders: Loaders
  partOf: (file: string) => BootPart | undefined
  /** The paths of the inits of all boot entries. */
  inits: readonly string[]
  /** The image as it is needed for a system that the machine publishes. */
  publishImage: PublishImage
  /**
   * Opens the files below the layer. The caller closes the index.
   *
   * @returns a promise while the server looks at very many files. When it has resolved, the caller asks again
   * @throws `NetimageError`, as the promise does
   */
  openIndex(): ImageIndex | Promise<void>
}

export interface OpenSystemsSettings {
  state: string
  /** The URL of boot trees, with a slash at its end. */
  http: string
  /** Called if an image of which only store paths are wanted cannot be read, or lacks some of them. */
  onError: (error: NetimageError) => void
}

export interface OpenSystems {
  /** @throws `NetimageError` `path-not-found`, `image-damaged` */
  open(machine: string, current: CurrentAttempt): Promise<OpenSystem>
  /** @throws as `open` */
  openImage(id: string): Promise<OpenSystem>
  /** Whether the site has the image, and the image has the store path. @throws `NetimageError` */
  hasStorePath(id: string, path: string): Promise<boolean>
  /** The part of a boot file in the first image that has it. */
  partOf(file: string): BootPart | undefined
  /** Whether machines mount this path as their root. */
  isRoot(path: string): boolean
  /** The images that are open now. */
  images(): ImageInfo[]
  /**
   * Lets go of the images that none of these systems has, so that they can be removed from the site.
   * Images that are being opened stay.
   */
  closeUnused(used: Iterable<UsesImages>): void
  close(): void
}

/** What programs are told of an open image. */
export interface ImageInfo {
  name: string
  toplevel: string
  platform: string
  rootPath: string
}

export type UsesImages = Pick<OpenSystem, 'image'> & Partial<Pick<OpenSystem, 'keptImages'>>

export function createOpenSystems({ state, http, onError }: OpenSystemsSettings): OpenSystems {
  const indexes = createImageIndexes({ onMissing: onError })
  const opened = new Map<string, Promise<SiteImage>>()
  const held = new Map<string, { image: SiteImage; system: OpenSystem }>()
  /** The ids of the images that each unfinished call of `open` needs. */
  const opening = new Set<readonly string[]>()

  /** An image that is open cannot be removed from the site. */
  function take(id: string): Promise<SiteImage> {
    const known = opened.get(id)
    if (known) return known
    const image = openAndHold(id)
    opened.set(id, image)
    image.catch(() => opened.delete(id))
    return image
  }

  async function openAndHold(id: string): Promise<SiteImage> {
    const image = await openSiteImage(state, id)
    try {
      held.set(id, { image, system: describe(image, ofImage(image)) })
    } catch (error) {
      image.release()
      throw fileSystemError(`could not open the image ${image.directory}`, error)
    }
    return image
  }

  /** A system over an image, without the images of other generations. */
  function describe(
    image: SiteImage,
    { system, boot, bootTree }: Pick<OpenedSystem, 'system' | 'boot' | 'bootTree'>,
  ): OpenSystem {
    const files = new Set(boot.files.map(({ path }) => path))
    const { rootDirectoryName, nfsRoot } = image.options
    const { id, directory } = image
    return {
      image: { id, directory, name: rootDirectoryName, toplevel: image.system.toplevel },
      ...withKept(image, []),
      toplevel: system.toplevel,
      platform: system.platform,
      bootTree,
      rootPath: parseNfsRoot(nfsRoot).path.replace(/\/+$/, '') || '/',
      loaders: findLoaders(files, (file) => processorOfProgram(join(bootTree, file)), http),
      partOf: bootParts({ system, boot }),
      inits: system.entries.map(({ init }) => init),
    }
  }

  function withKept(
    image: SiteImage,
    kept: readonly SiteImage[],
  ): Pick<OpenSystem, 'keptImages' | 'publishImage' | 'openIndex'> {
    return {
      keptImages: kept.map((each) => ({
        ...{ directory: each.directory, name: each.options.rootDirectoryName, id: each.id },
      })),
      publishImage: {
        ...{ id: image.id, manifest: image.manifest, bootTree: image.bootTree },
        keptImages: kept.map((each) => each.id),
      },
      openIndex: () =>
        indexes.prepare(image.rootImage) ??
        indexes.open(
          image.rootImage,
          kept.map(({ rootImage }) => rootImage),
        ),
    }
  }

  /** The loaders of an image are looked at once, when it is opened, and not at each boot. */
  function described(image: SiteImage): OpenSystem {
    return held.get(image.id)?.system ?? describe(image, ofImage(image))
  }

  /**
   * The store paths of earlier generations are no condition for a boot. But if an image cannot be opened
   * only at the moment, the machine waits: it may run and use these store paths.
   */
  async function openKept(current: CurrentAttempt): Promise<SiteImage[]> {
    const images: SiteImage[] = []
    for (const id of current.attempt.keptImages) {
      try {
        images.push(await take(id))
      } catch (error) {
        const known = asNetimageError(error)
        if (known.code === 'in-use' || isPassing(known.cause)) throw known
        onError(known)
      }
    }
    return images
  }

  /** The caller uses the result in the same turn of the event loop, so nothing is let go in between. */
  async function whileOpening<T>(ids: readonly string[], action: () => Promise<T>): Promise<T> {
    opening.add(ids)
    try {
      return await action()
    } finally {
      opening.delete(ids)
    }
  }

  async function openSystem(machine: string, current: CurrentAttempt): Promise<OpenSystem> {
    const { image: id, published } = current.generation
    const image = await take(id)
    const kept = await openKept(current)
    const system =
      published === undefined
        ? described(image)
        : describe(image, await openPublished(publishedOf(state, machine), published))
    return { ...system, ...withKept(image, kept) }
  }

  const systems = () => [...held.values()].map(({ system }) => system)

  return {
    open(machine, current) {
      const { generation, attempt } = current
      const ids = [generation.image, ...attempt.keptImages]
      return whileOpening(ids, () => openSystem(machine, current))
    },
    openImage: (id) => whileOpening([id], async () => described(await take(id))),
    async hasStorePath(id, path) {
      try {
        return await whileOpening([id], async () => {
          const { storePaths } = (await take(id)).rootImage
          return storePaths.some(({ name }) => name === basename(path))
        })
      } catch (error) {
        if (error instanceof NetimageError && error.code === 'path-not-found') return false
        throw error
      }
    },
    partOf(file) {
      for (const { partOf } of systems()) {
        const part = partOf(file)
        if (part) return part
      }
      return undefined
    },
    isRoot: (path) => systems().some(({ rootPath }) => rootPath === path),
    images: () =>
      systems().map(({ image: { name }, toplevel, platform, rootPath }) => ({
        ...{ name, toplevel, platform, rootPath },
      })),
    closeUnused(used) {
      const needed = new Set([...opening].flat())
      for (const { image, keptImages = [] } of used) {
        needed.add(image.id)
        for (const { id } of keptImages) needed.add(id)
      }
      for (const [id, { image }] of held) {
        if (needed.has(id)) continue
        held.delete(id)
        opened.delete(id)
        image.release()
      }
    },
    close() {
      for (const { image } of held.values()) image.release()
      held.clear()
    },
  }
}

type OpenedSystem = Pick<Manifest, 'system' | 'boot'> & { bootTree: string }

function ofImage({ manifest, bootTree }: SiteImage): OpenedSystem {
  return { system: manifest.system, boot: manifest.boot, bootTree }
}
