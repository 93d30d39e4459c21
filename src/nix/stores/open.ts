/** Opens the store that a URL names. The URLs are those of Nix. */
import { existsSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'

import { errnoOf, fileSystemError, NetimageError } from '../../errors.ts'
import { openBinaryCache, type CacheSettings } from './binary-cache.ts'
import { fileTransport } from './file-transport.ts'
import {
  closureInfoRoot,
  isClosureInfo,
  isLocalStore,
  openClosureInfo,
  openLocalStore,
} from './local-store.ts'
import {
  basicAuthorization,
  credentialsFor,
  emptyNetrc,
  parseNetrc,
  type Credentials,
  type Netrc,
} from './netrc.ts'
import type { RetrySettings } from './http-retry.ts'
import type { Store } from './store.ts'
import { withoutLogin } from './without-login.ts'

export interface OpenStoreOptions {
  /** Default: `/etc/nix/netrc`, as in Nix, if the file exists. */
  netrcFile?: string
  env?: NodeJS.ProcessEnv
  /** Ends every request and every wait of the store. */
  signal?: AbortSignal
  /** Gets a message when a store makes us wait. */
  warn?: (message: string) => void
  /** Waits between the requests for one file. Default: uses the clock. */
  wait?: RetrySettings['wait']
}

const defaultNetrcFile = '/etc/nix/netrc'

export async function openStore(text: string, options: OpenStoreOptions = {}): Promise<Store> {
  const { signal, env = process.env, warn = () => undefined, wait } = options
  const { base, parameters } = splitParameters(text)
  const settings = readSettings(text, parameters)
  const requests = { env, signal, warn, wait }
  if (base === 'local' || base === 'auto' || base === 'daemon') {
    const root = parameters.get('root') ?? '/'
    return openLocalStore(resolve(root), text, { ...settings, trusted: isOwn(root, settings) })
  }
  const [, scheme] = /^([a-z0-9+.-]+):\/\//i.exec(text) ?? []
  switch (scheme?.toLowerCase()) {
    case undefined:
      return openDirectory(base, text, settings)
    case 'file':
      return openBinaryCache(fileTransport(filePath(base, text)), settings)
    case 'http':
    case 'https': {
      const { httpTransport } = await import('./http-transport.ts')
      const { url, shown, ...access } = httpAccess(base, options.netrcFile)
      const transport = httpTransport(url, shown, { ...access, ...requests })
      return openBinaryCache(transport, settings)
    }
    case 's3': {
      const { s3Transport } = await import('./s3.ts')
      const transport = await s3Transport(parseUrl(text), withoutLogin(text), requests)
      return openBinaryCache(transport, settings)
    }
    default:
      throw badUrl(text, `netimage does not support stores with ${scheme}://`)
  }
}

/**
 * This machine already runs programs from its own store, so we trust that store. In stores of other
 * roots, paths need signatures, as with `nix copy`.
 */
function isOwn(root: string, settings: CacheSettings): boolean {
  return settings.trusted || resolve(root) === '/'
}

function openDirectory(path: string, text: string, settings: CacheSettings): Store {
  const directory = resolve(path)
  if (isLocalStore(directory)) {
    const trusted = isOwn(directory, settings)
    return openLocalStore(directory, text, { ...settings, trusted })
  }
  if (existsSync(resolve(directory, 'nix-cache-info'))) {
    return openBinaryCache(fileTransport(directory), settings)
  }
  if (isClosureInfo(directory)) {
    const root = closureInfoRoot(directory)
    if (root === undefined)
      throw badUrl(text, 'it is an output of closureInfo, but it is not in a Nix store')
    return openClosureInfo(directory, root, text, { ...settings, trusted: isOwn(root, settings) })
  }
  throw badUrl(text, 'there is neither a Nix store nor a binary cache')
}

function splitParameters(text: string): { base: string; parameters: URLSearchParams } {
  const mark = text.indexOf('?')
  if (mark < 0) return { base: text, parameters: new URLSearchParams() }
  return { base: text.slice(0, mark), parameters: new URLSearchParams(text.slice(mark + 1)) }
}

function readSettings(text: string, parameters: URLSearchParams): CacheSettings {
  const priority = parameters.get('priority')
  const trusted = parameters.get('trusted')
  if (priority !== null && !/^-?\d+$/.test(priority))
    throw badUrl(text, `the priority ${priority} is not a number`)
  if (trusted !== null && trusted !== 'true' && trusted !== 'false') {
    throw badUrl(text, `trusted is ${trusted}, but must be true or false`)
  }
  return {
    trusted: trusted === 'true',
    ...(priority !== null && { priority: Number(priority) }),
  }
}

/** Older versions of Nix use the path unchanged. Newer versions decode it: `%20` is a blank. */
function filePath(base: string, text: string): string {
  const path = base.slice('file://'.length)
  return resolve(existsSync(path) ? path : decodePart(path, text))
}

function decodePart(part: string, url: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    throw badUrl(url, 'its percent encoding is not valid')
  }
}

function httpAccess(base: string, netrcFile: string | undefined) {
  const url = parseUrl(base)
  const login = decodePart(url.username, base) || undefined
  const password = decodePart(url.password, base) || undefined
  url.username = ''
  url.password = ''
  const netrc = readNetrc(netrcFile)

  function credentialsOf(target: URL): Credentials | undefined {
    // A narinfo may name its file by http: then everybody on the way could read the password.
    if (url.protocol === 'https:' && target.protocol === 'http:') return undefined
    if (target.host !== url.host) return credentialsFor(netrc, target.hostname)
    if (password !== undefined) return { login: login ?? '', password }
    const found = credentialsFor(netrc, target.hostname, login)
    return found ?? (login === undefined ? undefined : { login, password: '' })
  }

  return {
    url,
    shown: url.href.replace(/\/$/, ''),
    authorize: (target: URL): Promise<Record<string, string>> => {
      const found = credentialsOf(target)
      return Promise.resolve(found ? { authorization: basicAuthorization(found) } : {})
    },
    accessHint: ({ hostname }: URL) =>
      `This cache needs credentials: put "machine ${hostname} login … password …" in a file, and name the file with --netrc-file.`,
  }
}

function readNetrc(file: string | undefined): Netrc {
  try {
    return parseNetrc(readFileSync(file ?? defaultNetrcFile, 'utf8'))
  } catch (error) {
    const absent = errnoOf(error) === 'ENOENT' || errnoOf(error) === 'EACCES'
    if (file === undefined && absent) return emptyNetrc
    throw fileSystemError(`could not read the netrc file ${file}`, error)
  }
}

function parseUrl(text: string): URL {
  try {
    return new URL(text)
  } catch {
    throw badUrl(text, 'it is not a URL')
  }
}

function badUrl(text: string, why: string): NetimageError {
  const store = withoutLogin(text)
  return new NetimageError('bad-store-url', `${JSON.stringify(store)} is not a store: ${why}`, {
    details: { store },
    hint: 'A store is https://…, http://…, file:///…, s3://…, local, local?root=DIR, a directory that holds nix/store, or an output of nixpkgs’s closureInfo.',
  })
}
