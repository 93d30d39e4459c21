/** Snapshots: copies of the contents of layers. They share data if the file system can. */
import { randomBytes } from 'node:crypto'
import { existsSync, renameSync, statSync } from 'node:fs'
import { join } from 'node:path'

import { databaseError, isDatabaseBroken } from '../database-error.ts'
import { NetimageError } from '../errors.ts'
import { makeDirectory } from '../make-directory.ts'
import type { Warn } from '../tidy.ts'
import { isCopy } from './copies.ts'
import { copyFileAt } from './copy-file.ts'
import { dataFolder } from './data-files.ts'
import { readBound, readKept } from './bind.ts'
import { databaseFile, type StatementValue } from './database.ts'
import { emptyLogOf, openUnchanging } from './database-file.ts'
import { makeContents } from './make-contents.ts'
import { namesIn } from './names-in.ts'
import { giveToOwnerOf } from './owner.ts'
import { newName, writeRecord, type LayerRecord } from './record.ts'
import { needRecord, measureContents, withLayer } from './store.ts'
import type { StoredLayer } from './stored-layer.ts'
import { sweep } from './sweep.ts'
import { syncDirectory } from '../sync-directory.ts'

export interface Snapshot {
  name: string
  /** Milliseconds since 1970. */
  created: number
  bytes: number
}

export function listSnapshots(layer: StoredLayer): Snapshot[] {
  return listNames(layer).map((name) => {
    const directory = join(snapshotsOf(layer), name)
    return { name, created: statSync(directory).mtimeMs, bytes: measureContents(directory).bytes }
  })
}

function listNames(layer: StoredLayer): string[] {
  return namesIn(snapshotsOf(layer)).filter((name) => !name.startsWith('.'))
}

export type SnapshotImages = Required<Pick<LayerRecord, 'image' | 'keptImages' | 'kept'>>

/**
 * The images that the snapshots of the layer need, if somebody restores them.
 *
 * @throws `NetimageError`
 */
export function imagesOfSnapshots(layer: StoredLayer): SnapshotImages[] {
  return listNames(layer).flatMap((name) => readBoundOf(join(snapshotsOf(layer), name)) ?? [])
}

/**
 * @returns undefined for a snapshot of a layer of an earlier version, which was in no site, and for one
 *   that is damaged or was removed meanwhile
 */
function readBoundOf(snapshot: string): SnapshotImages | undefined {
  const file = databaseFile(snapshot)
  if (!existsSync(file)) return undefined
  try {
    const database = openUnchanging(file)
    try {
      const asked = {
        select: (sql: string, ...values: StatementValue[]) => database.prepare(sql).all(...values),
      }
      const [table] = asked.select("SELECT 1 FROM sqlite_schema WHERE name = 'binding'")
      const bound = table && readBound(asked)
      if (!bound) return undefined
      return { image: bound.image, keptImages: [...bound.keptImages], kept: readKept(asked) }
    } finally {
      database.close()
    }
  } catch (error) {
    if (isDatabaseBroken(error) || !existsSync(file)) return undefined
    throw databaseError(`could not read the snapshot ${snapshot}`, error, {
      details: { file: snapshot },
    })
  }
}

/** @throws `NetimageError` `in-use`, `bad-usage`, `output-exists`, `path-not-found` */
export async function takeSnapshot(layer: StoredLayer, name: string): Promise<void> {
  const target = snapshotOf(layer, name)
  await withLayer(layer, () => {
    if (existsSync(target)) {
      throw new NetimageError('output-exists', `${layer.machine} has a snapshot ${name} already`, {
        details: { file: target },
        hint: 'Give the new snapshot another name.',
      })
    }
    const contents = join(layer.directory, needRecord(layer).name)
    if (existsSync(databaseFile(contents))) emptyLog(contents)
    makeDirectory(snapshotsOf(layer))
    const scratch = join(snapshotsOf(layer), `.new-${randomBytes(6).toString('hex')}`)
    copyContents(contents, scratch)
    giveToOwnerOf(layer.directory, snapshotsOf(layer))
    renameSync(scratch, target)
    syncDirectory(snapshotsOf(layer))
    syncDirectory(layer.directory)
  })
}

/**
 * Puts the layer back as it was then; later changes are lost. The layer gets a new name, so that
 * machines cannot use old handles: these may be of nodes that came later.
 *
 * @throws `NetimageError` `in-use`, `bad-usage`, `path-not-found`
 */
export async function restoreSnapshot(layer: StoredLayer, name: string, warn: Warn): Promise<void> {
  const source = snapshotOf(layer, name)
  await withLayer(layer, () => {
    const record = needRecord(layer)
    if (!existsSync(source)) throw noSnapshot(layer, name)
    // The images of the snapshot, and not those that the machine had last.
    const bound = readBoundOf(source)
    const restored = { ...record, ...bound, name: newName(), created: Date.now() }
    const contents = join(layer.directory, restored.name)
    copyContents(source, contents)
    giveToOwnerOf(layer.directory, contents)
    // The name of the contents must be on the disk before the record that refers to it.
    syncDirectory(layer.directory)
    writeRecord(layer.directory, restored)
    sweep(layer.directory, warn)
  })
}

/** @throws `NetimageError` `in-use`, `bad-usage`, `path-not-found` */
export async function removeSnapshot(layer: StoredLayer, name: string, warn: Warn): Promise<void> {
  const directory = snapshotOf(layer, name)
  await withLayer(layer, () => {
    if (!existsSync(directory)) throw noSnapshot(layer, name)
    const removed = `.removed-${name}-${randomBytes(6).toString('hex')}`
    renameSync(directory, join(snapshotsOf(layer), removed))
    syncDirectory(snapshotsOf(layer))
    sweep(layer.directory, warn)
  })
}

function snapshotsOf({ directory }: StoredLayer): string {
  return join(directory, 'snapshots')
}

function snapshotOf(layer: StoredLayer, name: string): string {
  if (!/^[A-Za-z0-9][\w.-]{0,63}$/.test(name)) {
    throw new NetimageError('bad-usage', `'${name}' cannot be the name of a snapshot`, {
      details: { field: 'snapshot', actual: name },
      hint: 'Use up to 64 letters, digits and . _ -, beginning with a letter or digit.',
    })
  }
  return join(snapshotsOf(layer), name)
}

function noSnapshot(layer: StoredLayer, name: string): NetimageError {
  const names = listSnapshots(layer).map((snapshot) => snapshot.name)
  const hint =
    names.length === 0 ? 'The layer has no snapshots.' : `The layer has: ${names.join(', ')}.`
  return new NetimageError('path-not-found', `${layer.machine} has no snapshot ${name}`, {
    details: { file: snapshotOf(layer, name) },
    hint,
  })
}

/** Moves the log into the database. SQLite does not tell if this fails, so we look at the log. */
function emptyLog(contents: string): void {
  emptyLogOf(databaseFile(contents))
  const log = statSync(`${databaseFile(contents)}-wal`, { throwIfNoEntry: false })
  if (log === undefined || log.size === 0) return
  throw new NetimageError(
    'disk-full',
    `could not move the log of ${contents} into its database: the disk is full`,
    {
      details: { file: contents },
      hint: 'Make room on that disk, and try again. Nothing is lost.',
    },
  )
}

/** Copies a closed layer, and waits until the copy is on the disk. On failure, removes the copy. */
function copyContents(from: string, to: string): void {
  makeContents(to, () => {
    if (existsSync(databaseFile(from))) copyFileAt(databaseFile(from), databaseFile(to))
    // A server that was killed may have left a copy of a large file that it had not finished.
    for (const name of namesIn(dataFolder(from)).filter((each) => !isCopy(each))) {
      copyFileAt(join(dataFolder(from), name), join(dataFolder(to), name))
    }
  })
}
