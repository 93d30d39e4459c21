/** Which systems a machine has in the store paths that it made itself. */
import { lstatSync } from 'node:fs'
import { basename, join } from 'node:path'

import { databaseFile } from './database.ts'
import { readDatabaseFile } from './database-file.ts'
import { firstOwn, lastOwn } from './numbers.ts'
import { readRecord } from './record.ts'
import { snapshotOf } from './snapshots.ts'
import { withLayer } from './store.ts'
import type { StoredLayer } from './stored-layer.ts'

/** A path of the machine can be hidden by a path of an image that the machine has now. */
const hasInit = `
  WITH tops AS (
    SELECT node FROM entries
    WHERE directory = (SELECT number FROM files WHERE path = ?1) AND name = ?2
    UNION ALL SELECT node FROM hidden WHERE name = ?2
  )
  SELECT 1 FROM tops JOIN entries ON entries.directory = tops.node
  WHERE tops.node BETWEEN ${firstOwn} AND ${lastOwn} AND entries.name = ?3 AND entries.node IS NOT NULL
`
const [store, init] = [Buffer.from('/nix/store'), Buffer.from('init')]

/**
 * @param layer that nobody has open
 * @param toplevels store paths of systems
 * @param snapshot the name of a snapshot that is looked at in place of what the machine has now
 * @returns the systems that the machine made and has with their init
 * @throws `NetimageError` `in-use`, `bad-state`
 */
export async function findOwnSystems(
  layer: StoredLayer,
  toplevels: readonly string[],
  snapshot?: string,
): Promise<Set<string>> {
  const record = readRecord(layer.directory)
  if (!record) return new Set()
  return await withLayer(layer, () => {
    const present = join(layer.directory, record.name)
    const file = databaseFile(snapshot === undefined ? present : snapshotOf(layer, snapshot))
    // The machine has written nothing since its layer was reset.
    if (lstatSync(file, { throwIfNoEntry: false }) === undefined) return new Set()
    return readDatabaseFile(file, (database) => {
      const find = database.prepare(hasInit)
      const has = (toplevel: string) => find.get(store, Buffer.from(basename(toplevel)), init)
      return new Set(toplevels.filter((toplevel) => has(toplevel) !== undefined))
    })
  })
}
