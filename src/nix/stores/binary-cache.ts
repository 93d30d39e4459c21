/**
 * A binary cache: narinfos and compressed NARs, reached by some transport.
 *
 * https://nix.dev/manual/nix/latest/protocols/binary-cache/
 */
import { NetimageError } from '../../errors.ts'
import type { NarFile } from '../nar-source.ts'
import { parseNarInfo, type NarInfo } from '../narinfo.ts'
import { hashPartOf, storeDir, type StorePath } from '../store-path.ts'
import type { FetchOptions, Store } from './store.ts'

/** How the files of a cache are reached. Names are relative to the cache, or whole URLs. */
export interface Transport {
  readonly url: string
  /** A small file's text; undefined where the cache does not have the file. */
  text: (name: string) => Promise<string | undefined>
  /**
   * A file on this machine with the content of `name`; undefined where the cache does not have it.
   *
   * @param maxBytes what is larger than this is an error
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

const defaultPriority = 50

/** Nothing is asked of the cache before a path is. */
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
  // No signature covers the file's size: it may make the bound smaller, never larger.
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

/** No compression makes anything larger by more than a few bytes in a thousand. */
function largestFile(narSize: number): number {
  return Math.ceil(narSize * 1.05) + 65536
}

function missingNar(cache: string, path: StorePath, name: string): NetimageError {
  return new NetimageError(
    'path-not-found',
    `the cache ${cache} describes ${path}, but does not have its NAR ${name}`,
    { hint: 'The cache may have been cleaned in a wrong way. Name another store with --from.' },
  )
}

interface CacheInfo {
  priority: number
}

async function readCacheInfo({ url, text }: Transport): Promise<CacheInfo> {
  const cacheInfo = await text('nix-cache-info')
  if (cacheInfo !== undefined) return parseCacheInfo(cacheInfo, url)
  throw new NetimageError('bad-store', `${url} is not a binary cache: it has no nix-cache-info`, {
    hint: 'Check the URL: it names the directory that holds nix-cache-info.',
  })
}

function parseCacheInfo(text: string, url: string): CacheInfo {
  const fields = new Map(
    text.split('\n').map((line) => {
      const colon = line.indexOf(':')
      return [line.slice(0, Math.max(colon, 0)), line.slice(colon + 1).trim()] as const
    }),
  )
  const theirStore = fields.get('StoreDir')
  if (theirStore !== storeDir) {
    const why = theirStore ? `it is of the store ${theirStore}` : 'its nix-cache-info is broken'
    throw new NetimageError('bad-store', `${url} is not a cache of ${storeDir}: ${why}`, {
      hint: 'Check that the URL leads to a binary cache, and not to a page that answers in its place.',
    })
  }
  const priority = Number(fields.get('Priority') || defaultPriority)
  return { priority: Number.isFinite(priority) ? priority : defaultPriority }
}
