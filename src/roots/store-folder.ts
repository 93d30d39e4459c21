/**
 * A directory on the disk with store paths: the store in the root tree of an image, or the store of
 * the site. All roots share the tables of the store paths in it.
 */
import { closeSync, readdirSync } from 'node:fs'

import { pathOfDescriptor } from '../open-safely.ts'
import { createStoreTables, type StoreTables, type StoreTablesSettings } from './store-tables.ts'

export interface StoreFolder extends StoreTables {
  /** The directory, held open. */
  directory: number
  /** Whether the store path is a directory; undefined if the folder does not have the name. */
  isDirectory(name: string): boolean | undefined
  /** The store path's name in errors. */
  shown(name: string): string
  /** To be called for each store path of an index that is opened. */
  use(name: string): void
  /**
   * To be called once for each `use`. Forgets what is known of a store path that nobody uses any more:
   * it can be removed from the disk now, and added again.
   */
  release(name: string): void
  /** @returns the path of a store path on the disk, which stays valid if the folder is renamed */
  pathOf(name: string): Buffer
}

export interface StoreFolderSettings extends Pick<
  StoreTablesSettings,
  'owner' | 'cache' | 'maxNodes' | 'now' | 'shown'
> {
  /** Held open; closed with the folder. */
  directory: number
  /** The path of the directory. */
  path: string
  /** The names that are known already: whether each is a directory. */
  listed: ReadonlyMap<string, boolean>
}

export function openStoreFolder(settings: StoreFolderSettings): StoreFolder {
  const { directory, path, listed, ...ofTables } = settings
  const held = pathOfDescriptor(directory) ?? path
  const listing = new Map(listed)
  const users = new Map<string, number>()

  /** The store of a site gets more store paths while it is open. */
  function isDirectory(name: string): boolean | undefined {
    if (!listing.has(name)) readNames()
    return listing.get(name)
  }

  function readNames(): void {
    for (const entry of readdirSync(`${held}/.`, { withFileTypes: true })) {
      listing.set(entry.name, entry.isDirectory())
    }
  }

  const pathOf = (name: string) => Buffer.from(`${held}/${name}`)
  const tables = createStoreTables({
    ...ofTables,
    placeOnDisk: pathOf,
    isDirectory: (name) => listing.get(name) ?? false,
  })
  return {
    ...tables,
    ...{ directory, isDirectory, pathOf, shown: settings.shown },
    use: (name) => void users.set(name, (users.get(name) ?? 0) + 1),
    release(name) {
      const left = (users.get(name) ?? 1) - 1
      if (left > 0) return void users.set(name, left)
      users.delete(name)
      listing.delete(name)
      tables.forget(name)
    },
    close() {
      tables.close()
      closeSync(directory)
    },
  }
}
