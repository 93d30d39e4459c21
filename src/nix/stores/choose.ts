/** Opens the stores that a person chose, in the order of asking. */
import { existsSync } from 'node:fs'
import { isAbsolute } from 'node:path'

import { NetimageError } from '../../errors.ts'
import type { StoreAccess } from '../closure.ts'
import { nixosCacheKey, parsePublicKey } from '../signature.ts'
import { isLocalStore } from './local-store.ts'
import { openStore } from './open.ts'
import type { Store } from './store.ts'

export interface StoreChoice {
  /**
   * Store URLs, in the order of asking. One string may hold several URLs, separated by blanks;
   * their order follows from their priorities. The name of a directory may contain blanks.
   * Default: this machine's store, then the public NixOS cache.
   */
  from?: string[]
  /** Default: the key of the public NixOS cache. */
  trustedPublicKeys?: string[]
  /** False: accept unsigned paths. */
  checkSignatures?: boolean
  netrcFile?: string
}

const nixosCache = 'https://cache.nixos.org'

export async function openStores(
  choice: StoreChoice,
  warn: (message: string) => void,
  signal?: AbortSignal,
): Promise<StoreAccess> {
  const keys = choice.trustedPublicKeys ?? [nixosCacheKey]
  const policy = {
    keys: keys.flatMap((text) => text.split(/\s+/).filter(Boolean)).map(parsePublicKey),
    checkSignatures: choice.checkSignatures ?? true,
  }
  const { netrcFile } = choice
  const places = choice.from ?? defaultStores()
  const stores: Store[] = []
  for (const place of places) {
    const urls = splitPlace(place)
    if (urls.length === 0) throw new NetimageError('bad-store-url', 'a store has an empty URL')
    const options = {
      warn,
      ...(netrcFile !== undefined && { netrcFile }),
      ...(signal && { signal }),
    }
    const equals = await Promise.all(urls.map((url) => openStore(url, options)))
    stores.push(...(await byPriority(equals, warn)))
  }
  return { stores, policy, failed: new Map(), warn }
}

/** Blanks separate stores only if each part could be a store: directories may have blanks, too. */
function splitPlace(place: string): string[] {
  const whole = place.trim()
  const parts = whole.split(/\s+/).filter(Boolean)
  if (parts.length < 2) return parts
  return !existsSync(whole) && parts.every(standsAlone) ? parts : [whole]
}

function standsAlone(part: string): boolean {
  const isUrl = /^[a-z0-9+.-]+:\/\//i.test(part) || /^(local|auto|daemon)(\?|$)/.test(part)
  return isUrl || (isAbsolute(part) && existsSync(part))
}

function defaultStores(): string[] {
  return isLocalStore('/') ? ['local', nixosCache] : [nixosCache]
}

async function byPriority(stores: Store[], warn: (message: string) => void): Promise<Store[]> {
  if (stores.length < 2) return stores
  const ranked = await Promise.all(
    stores.map(async (store) => {
      try {
        return { store, priority: await store.priority() }
      } catch (error) {
        if (!(error instanceof NetimageError) || error.code === 'interrupted') throw error
        // The store may still have paths that the others lack. If it fails again, we warn then.
        warn(`could not read the priority of ${store.url}; it is asked last`)
        return { store, priority: Infinity }
      }
    }),
  )
  return ranked.sort((a, b) => a.priority - b.priority).map(({ store }) => store)
}
