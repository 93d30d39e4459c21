/**
 * Files that a machine began to change, and that have the bytes of the image. The server does not wait for the
 * disk when it makes such a file: it syncs the file before it acknowledges anything that follows. If the server
 * ends before, the file may lack bytes that the machine did not write. So the next opening takes the file of the
 * image again. What the machine wrote into the copy was not acknowledged, and the machine writes it again.
 */
import * as v from 'valibot'

import type { NodeId } from '../protocols/nfs/file-system.ts'
import type { LayerDatabase } from './database.ts'
import { inTransaction } from './in-transaction.ts'
import { withReserveOf } from './reserve.ts'
import { doNow, type Steps } from './steps.ts'

const copiesSchema = v.pipe(v.string(), v.parseJson(), v.array(v.number()))

/** To be called in the transaction that writes their rows, and when they are on the disk. */
export function noteCopies(database: LayerDatabase, unsynced: readonly NodeId[]): void {
  const noted = JSON.stringify(unsynced)
  if ((database.readMeta('copies') ?? '[]') !== noted) database.writeMeta('copies', noted)
}

export function readUnsyncedCopies(database: Pick<LayerDatabase, 'readMeta'>): NodeId[] {
  const noted = v.safeParse(copiesSchema, database.readMeta('copies'))
  return noted.success ? noted.output : []
}

/**
 * To be called when the layer is opened, before anything uses the files. Those that are dropped are left files.
 *
 * @param directory of the contents of the layer
 */
export function dropUnsyncedCopies(database: LayerDatabase, directory: string): void {
  const nodes = readUnsyncedCopies(database)
  if (nodes.length === 0) return

  function* drop(): Steps {
    for (const node of nodes) {
      const row = database.readNode(node)
      if (row) database.writeNode({ ...row, ownData: false })
      yield
    }
    noteCopies(database, [])
  }

  withReserveOf(directory, () => doNow(inTransaction(database, drop())))
}
