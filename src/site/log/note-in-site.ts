/** Adds a row to the log of a site about something that is not in its database. */
import { changeSite } from '../change-site.ts'
import type { Noted } from './entry.ts'

/** The row is on the disk when this resolves. @throws `NetimageError` */
export async function noteInSite(state: string, noted: Noted): Promise<void> {
  await changeSite(state, ({ change }) => change((writer) => writer.note(noted)))
}
