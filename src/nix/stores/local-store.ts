/**
 * Reads a local store from Nix's own database. This needs no `nix` program, and Nix may change the
 * store at the same time.
 */
import {
  copyFileSync,
  existsSync,
  lstatSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  statSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { DatabaseSync, type SQLOutputValue } from 'node:sqlite'

import { isDatabaseBusy } from '../../database-error.ts'
import { errnoOf, fileSystemError, messageOf, NetimageError } from '../../errors.ts'
import { removeTree } from '../../remove-tree.ts'
import { parseHash } from '../hash.ts'
import { sortedReferences, type PathInfo } from '../path-info.ts'
import { parseRegistration } from '../registration.ts'
import { baseNameOf, storeDir, toStorePath, type StorePath } from '../store-path.ts'
import type { Store } from './store.ts'

export interface LocalStoreSettings {
  trusted: boolean
  priority?: number
}

const schemaVersion = '10'

/** @param root the directory that holds `nix/store`: `/` for this machine's own */
export function openLocalStore(root: string, url: string, settings: LocalStoreSettings): Store {
  return openIndexedStore(openIndex(root, url), root, url, settings)
}

/**
 * Opens the closure that nixpkgs's `closureInfo` describes. Inside a Nix build, this works without
 * the database, which is not there.
 *
 * @param directory the output of `closureInfo`
 * @param root the directory whose `nix/store` holds that output
 */
export function openClosureInfo(
  directory: string,
  root: string,
  url: string,
  settings: LocalStoreSettings,
): Store {
  const index = readRegistration(join(directory, closureInfoFile))
  return openIndexedStore(index, root, url, settings)
}

/**
 * The directory whose `nix/store` holds the output of `closureInfo` and the paths that it lists.
 *
 * @returns undefined if the output is not in a store: then anybody could have made it
 */
export function closureInfoRoot(directory: string): string | undefined {
  const inStore = directory.includes(`${storeDir}/`) ? directory : realpathSync(directory)
  const end = inStore.lastIndexOf(`${storeDir}/`)
  return end < 0 ? undefined : inStore.slice(0, end) || '/'
}

const closureInfoFile = 'registration'

export function isClosureInfo(directory: string): boolean {
  return [closureInfoFile, 'store-paths'].every((name) => existsSync(join(directory, name)))
}

function openIndexedStore(
  index: StoreIndex,
  root: string,
  url: string,
  settings: LocalStoreSettings,
): Store {
  return {
    url,
    trusted: settings.trusted,
    priority: () => Promise.resolve(settings.priority ?? 0),
    lookup(path) {
      const info = index.info(path)
      const directory = join(root, 'nix/store', baseNameOf(path))
      if (!info || !isThere(directory)) return Promise.resolve(undefined)
      return Promise.resolve({ info, fetch: () => Promise.resolve({ kind: 'tree', directory }) })
    },
    close() {
      index.close()
      return Promise.resolve()
    },
  }
}

function isThere(directory: string): boolean {
  try {
    return lstatSync(directory, { throwIfNoEntry: false }) !== undefined
  } catch (error) {
    throw fileSystemError(`could not look for ${directory}`, error)
  }
}

interface StoreIndex {
  info(path: StorePath): PathInfo | undefined
  close(): void
}

/** Whether `root` has a list of its valid store paths. */
export function isLocalStore(root: string): boolean {
  return existsSync(databaseFile(root)) || existsSync(registrationFile(root))
}

function databaseFile(root: string): string {
  return join(root, 'nix/var/nix/db/db.sqlite')
}

/** The root tree of an image has this file instead of a database until its first boot. */
function registrationFile(root: string): string {
  return join(root, 'nix-path-registration')
}

function openIndex(root: string, url: string): StoreIndex {
  if (existsSync(databaseFile(root))) return openDatabaseIndex(root, url)
  const file = registrationFile(root)
  if (!existsSync(file)) {
    throw new NetimageError('bad-store-url', `${root} does not hold a Nix store`, {
      details: { file: root },
      hint: `A local store has the file ${databaseFile('DIR')}. The root of a net image has the file nix-path-registration.`,
    })
  }
  return readRegistration(file)
}

function readRegistration(file: string): StoreIndex {
  try {
    const infos = parseRegistration(readFileSync(file, 'utf8'), file)
    const byPath = new Map(infos.map((info) => [info.path, info]))
    return { info: (path) => byPath.get(path), close: () => undefined }
  } catch (error) {
    throw fileSystemError(`could not read the registration ${file}`, error)
  }
}

function openDatabaseIndex(root: string, url: string): StoreIndex {
  const file = databaseFile(root)
  checkSchema(join(root, 'nix/var/nix/db/schema'), url)
  const { database, close } = openDatabase(file, url)
  try {
    const findPath = database.prepare(
      'SELECT id, hash, narSize, deriver, sigs, ca FROM ValidPaths WHERE path = ?',
    )
    const findReferences = database.prepare(
      'SELECT path FROM Refs JOIN ValidPaths ON reference = id WHERE referrer = ?',
    )
    return {
      info(path) {
        try {
          const row = findPath.get(path)
          if (!row) return undefined
          const references = findReferences.all(Number(row['id'])).map((row) => row['path'])
          return toPathInfo(path, row, references, url)
        } catch (error) {
          throw unreadable(file, url, error)
        }
      },
      close,
    }
  } catch (error) {
    close()
    throw unreadable(file, url, error)
  }
}

function toPathInfo(
  path: StorePath,
  row: Record<string, SQLOutputValue>,
  referenceValues: (SQLOutputValue | undefined)[],
  url: string,
): PathInfo {
  const text = (column: string) => (typeof row[column] === 'string' ? row[column] : '')
  const narHash = parseHash(text('hash'))
  const narSize = Number(row['narSize'])
  const references = referenceValues.map((value) =>
    typeof value === 'string' ? toStorePath(value) : undefined,
  )
  const valid = references.filter((reference) => reference !== undefined)
  const deriver = toStorePath(text('deriver'))
  const whole = narHash?.algorithm === 'sha256' && Number.isSafeInteger(narSize) && narSize > 0
  if (!whole || valid.length !== references.length) {
    throw new NetimageError('bad-store', `the database of ${url} has a broken record of ${path}`, {
      details: { store: url, path },
      hint: 'Repair the store with `nix-store --verify --repair`.',
    })
  }
  const ca = text('ca')
  return {
    path,
    narHash,
    narSize,
    references: sortedReferences(valid),
    signatures: text('sigs').split(/\s+/).filter(Boolean),
    ...(deriver && { deriver }),
    ...(ca && { ca }),
  }
}

function checkSchema(file: string, url: string): void {
  let version: string
  try {
    version = readFileSync(file, 'utf8').trim()
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return
    throw fileSystemError(`could not read ${file}`, error)
  }
  if (version === schemaVersion) return
  throw new NetimageError('bad-store', `the database of ${url} has the unknown schema ${version}`, {
    details: { store: url, field: 'schema', expected: schemaVersion, actual: version },
    hint: `netimage reads schema ${schemaVersion}, which Nix has used since 2.0. Serve the store as a binary cache instead.`,
  })
}

interface OpenDatabase {
  database: DatabaseSync
  close: () => void
}

/**
 * SQLite writes files beside a database in WAL mode, even to read it. If this user may not do that,
 * we open the database with `immutable`. That ignores the WAL. So if there is a WAL, we read a copy
 * of both files instead.
 */
function openDatabase(file: string, url: string): OpenDatabase {
  try {
    return openPlainly(pathToFileURL(file))
  } catch (plainError) {
    // Without locks, we would also read changes that are not committed or must be rolled back.
    if (isDatabaseBusy(plainError) || isFilled(`${file}-journal`))
      throw unreadable(file, url, plainError)
    try {
      if (!isFilled(`${file}-wal`)) {
        const address = pathToFileURL(file)
        address.search = '?immutable=1'
        return openPlainly(address)
      }
      return openCopy(file)
    } catch {
      throw unreadable(file, url, plainError)
    }
  }
}

function openPlainly(address: URL): OpenDatabase {
  const database = new DatabaseSync(address, { readOnly: true, timeout: 10_000 })
  try {
    database.prepare('SELECT count(*) FROM sqlite_schema').get()
  } catch (error) {
    database.close()
    throw error
  }
  return { database, close: () => database.close() }
}

function isFilled(file: string): boolean {
  return (statSync(file, { throwIfNoEntry: false })?.size ?? 0) > 0
}

function openCopy(file: string): OpenDatabase {
  const directory = mkdtempSync(join(tmpdir(), 'netimage-db-'))
  try {
    const copy = join(directory, basename(file))
    copyFileSync(file, copy)
    copyFileSync(`${file}-wal`, `${copy}-wal`)
    const opened = openPlainly(pathToFileURL(copy))
    return {
      database: opened.database,
      close() {
        opened.close()
        removeTree(directory)
      },
    }
  } catch (error) {
    removeTree(directory)
    throw error
  }
}

function unreadable(file: string, url: string, error: unknown): Error {
  if (error instanceof NetimageError) return error
  if (isDatabaseBusy(error)) {
    return new NetimageError('store-unavailable', `another program has locked ${file} of ${url}`, {
      cause: error,
      details: { store: url, file },
      hint: 'Wait until Nix has finished its work in that store, then run this again.',
    })
  }
  return new NetimageError('bad-store', `could not read ${file} of ${url}: ${messageOf(error)}`, {
    cause: error,
    details: { store: url, file },
    hint: 'Check that the file is the database of a Nix store, and that this user may read it.',
  })
}
