/** Opens a site to change it beside its server, as commands do. */
import { openSiteDatabase, type SiteDatabase } from './database.ts'
import type { SiteWriter } from './statements.ts'

export interface SiteToChange {
  read: SiteDatabase['read']
  /** The changes are on the disk when this resolves, or none of them is made. @throws `NetimageError` */
  change: <T>(action: (writer: SiteWriter) => T) => Promise<T>
}

/** The site is closed when this resolves. @throws `NetimageError` */
export async function changeSite<T>(
  state: string,
  use: (site: SiteToChange) => Promise<T>,
): Promise<T> {
  const database = openSiteDatabase(state)
  try {
    return await use({
      read: database.read,
      async change(action) {
        const changed = database.change(action)
        await database.durable()
        return changed
      },
    })
  } finally {
    database.close()
  }
}
