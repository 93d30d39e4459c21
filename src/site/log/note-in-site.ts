/** Adds a row to the log of a site about something that is not in its database. */
import { openSiteDatabase } from '../database.ts'
import type { Noted } from './entry.ts'

/** The row is on the disk when this resolves. @throws `NetimageError` */
export async function noteInSite(state: string, noted: Noted): Promise<void> {
  const site = openSiteDatabase(state)
  try {
    site.change((writer) => writer.note(noted))
    await site.durable()
  } finally {
    site.close()
  }
}
