/** Looks once in the log of a site. Whoever follows the log looks again and again. */
import type { FoundInLog, LogQuery } from '../site/log/rows.ts'

interface Found extends FoundInLog {
  /** Names by machine. */
  names: ReadonlyMap<string, string>
}

/**
 * Opens the site each time, because it may not be there yet, or may be replaced by a copy of it.
 *
 * @returns while it is not there, `last` as it was before: otherwise all rows would come again after that
 */
export async function lookInLog(state: string, query: LogQuery): Promise<Found> {
  const { openSiteToRead } = await import('../site/database.ts')
  const site = openSiteToRead(state)
  if (!site) return { rows: [], last: query.after ?? 0, names: new Map() }
  try {
    return { ...site.log(query), names: site.names() }
  } finally {
    site.close()
  }
}
