/** Starts the status page beside a server. */
import type { Boot } from '../boots/follow.ts'
import { NetimageError } from '../errors.ts'
import type { Page, PageSettings } from '../page/page.ts'
import type { PagePlace } from './serve-flags.ts'

/** Only this computer can read it there. */
const byDefault: PagePlace = { host: '127.0.0.1', port: 8080 }

export interface ServePageSettings {
  /** The state directory. */
  state: string
  /** Undefined: nobody has said where. */
  place: PagePlace | 'off' | undefined
  names: readonly string[]
  boots: () => readonly Boot[]
  operations: PageSettings['operations']
  warn: (line: string) => void
  onError: (error: NetimageError) => void
}

/**
 * @returns undefined if there is no page. If nobody has said where it is to be, a port that is taken is only a
 *   warning: machines matter more
 * @throws `NetimageError` `cannot-listen`
 */
export async function servePage(settings: ServePageSettings): Promise<Page | undefined> {
  const { place = byDefault, warn, ...rest } = settings
  if (place === 'off') return undefined
  const { startPage } = await import('../page/page.ts')
  try {
    return await startPage({ ...rest, ...place })
  } catch (error) {
    if (settings.place || !(error instanceof NetimageError) || error.code !== 'cannot-listen')
      throw error
    warn(`warning: there is no status page: ${error.message} [${error.code}]`)
    if (error.hint !== undefined) warn(`  ${error.hint}`)
    return undefined
  }
}
