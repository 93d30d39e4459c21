/**
 * A binary cache: narinfos and compressed NARs, which a transport reads.
 *
 * https://nix.dev/manual/nix/latest/protocols/binary-cache/
 */
import { NetimageError, type ErrorDetails } from '../../errors.ts'
import type { NarFile } from '../nar-source.ts'
import { parseNarInfo, type NarInfo } from '../narinfo.ts'
import { hashPartOf, storeDir, type StorePath } from '../store-path.ts'
import type { FetchOptions, Store } from './store.ts'

/** Reads the files of a cache. Names are relative to the cache, or whole URLs. */
export interface Transport {
  readonly url: string
  /** The text of a small file. @returns undefined if the cache does not have the file */
  text: (name: string) => Promise<string | undefined>
  /**
   * A file on this machine with the content of `name`.
   *
   * @param maxBytes a larger file is an error
   * @returns undefined if the cache does not have the file
   */
  file(
    name: string,
    maxBytes: number,
    options: FetchOptions,
  ): Promise<Pick<NarFile, 'file' | 'temporary'> | undefined>
  close(): Promise<void>
}

export interface CacheSettings {
  trusted: boolean
  /** Overrides the priority that the cache claims. */
  priority?: number
}

/** The description of a cache. Every cache has this file. */
export const cacheInfoName = 'nix-cache-info'

const defaultPriority = 50

/** Sends no request before somebody asks for a path or the priority. */
export function openBinaryCache(transport: Transport, settings: CacheSettings): Store {
  const { url } = transport
  let cacheInfo: Promise<CacheInfo> | undefined
  const ready = () => (cacheInfo ??= readCacheInfo(transport))
  return {
    url,
    trusted: settings.trusted,
    priority: async () => settings.priority ?? (await ready()).priority,
    async lookup(path) {
      await ready()
      const name = `${hashPartOf(path)}.narinfo`
      const text = await transport.text(name)
      if (text === undefined) return undefined
      const info = parseNarInfo(text, path, `${url}/${name}`)
      return { info, fetch: (options) => fetchNar(transport, info, options) }
    },
    close: () => transport.close(),
  }
}

async function fetchNar(
  transport: Transport,
  info: NarInfo,
  options: FetchOptions,
): Promise<NarFile> {
  const { url, compression, fileHash, fileSize } = info
  // No signature covers the file's size. So it can make the limit smaller, but never larger.
  const maxBytes = Math.min(fileSize ?? Infinity, largestFile(info.narSize))
  const file = await transport.file(url, maxBytes, options)
  if (!file) throw missingNar(transport.url, info.path, url)
  return {
    kind: 'file',
    ...file,
    compression,
    ...(fileHash && { fileHash }),
    ...(fileSize !== undefined && { fileSize }),
  }
}

/** Every compression makes its input larger by at most a few bytes in a thousand. */
function largestFile(narSize: number): number {
  return Math.ceil(narSize * 1.05) + 65536
}

function missingNar(cache: string, path: StorePath, name: string): NetimageError {
  return new NetimageError(
    'path-not-found',
    `the cache ${cache} describes ${path}, but does not have its NAR ${name}`,
    {
      hint: 'Perhaps somebody removed files from the cache. Name another store with --from.',
      details: { path, store: cache, url: name },
    },
  )
}

interface CacheInfo {
  priority: number
}

async function readCacheInfo({ url, text }: Transport): Promise<CacheInfo> {
  const cacheInfo = await text(cacheInfoName)
  if (cacheInfo !== undefined) return parseCacheInfo(cacheInfo, url)
  throw new NetimageError('bad-store', `${url} is not a binary cache: it has no ${cacheInfoName}`, {
    hint: `Check the URL: it must name the directory that holds ${cacheInfoName}.`,
    details: { store: url, field: cacheInfoName },
  })
}

/** As in Nix, all fields may be missing. */
function parseCacheInfo(text: string, url: string): CacheInfo {
  const broken = (why: string, details: ErrorDetails) =>
    new NetimageError('bad-store', `${url} is not a cache of ${storeDir}: ${why}`, {
      hint: 'Check that the URL leads to a binary cache, and not to another web page.',
      details: { store: url, ...details },
    })
  const fields = new Map<string, string>()
  for (const line of text.split(/\r?\n/).filter((line) => line.trim() !== '')) {
    const [, key, value] = /^\s*([A-Za-z0-9_-]+)\s*:(.*)$/.exec(line) ?? []
    if (key === undefined || value === undefined) {
      const shown = JSON.stringify(line.slice(0, 80))
      throw broken(`${shown} in its ${cacheInfoName} is not "Key: value"`, { actual: line })
    }
    fields.set(key, value.trim())
  }
  const theirStore = fields.get('StoreDir') || storeDir
  if (theirStore !== storeDir) {
    const details = { field: 'StoreDir', expected: storeDir, actual: theirStore }
    throw broken(`its store directory is ${theirStore}`, details)
  }
  const priority = Number(fields.get('Priority') || defaultPriority)
  return { priority: Number.isFinite(priority) ? priority : defaultPriority }
}
