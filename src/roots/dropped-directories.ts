/**
 * Deletes the entries of directories of the image that a machine has removed: these entries say which names
 * were removed before. There can be very many, so most are deleted later, in pieces. Nobody can see them
 * meanwhile, because the directory is gone. If the server ends before, the next opening of the layer goes on.
 */
import * as v from 'valibot'

import { FileSystemError, type NodeId } from '../protocols/nfs/file-system.ts'
import type { LayerDatabase } from './database.ts'
import { nextPiece } from './steps.ts'
import type { Transactions } from './transactions.ts'

export interface DroppedDirectories {
  /** To be called in the transaction that removes the directory. */
  drop(directory: NodeId): void
  /** To be called when the layer is open, and after each commit: deletes what is left. */
  goOn(): void
  /** Resolves once nothing is deleted any more. */
  stop(): Promise<void>
}

/** So many entries are deleted in one piece. */
const atOnce = 256

const directoriesSchema = v.pipe(v.string(), v.parseJson(), v.array(v.number()))

/** The directories that may still have entries. */
export function readDropped(database: Pick<LayerDatabase, 'readMeta'>): NodeId[] {
  const parsed = v.safeParse(directoriesSchema, database.readMeta('dropped'))
  return parsed.success ? parsed.output : []
}

export function createDroppedDirectories(
  database: LayerDatabase,
  transactions: Pick<Transactions, 'run' | 'whenLogIsShort'>,
): DroppedDirectories {
  let mayBeLeft = true
  let isStopped = false
  let going: Promise<void> | undefined

  const write = (directories: readonly NodeId[]) =>
    database.writeMeta('dropped', JSON.stringify(directories))

  /** @returns whether there may be more */
  function deletePiece(): boolean {
    const [directory, ...others] = readDropped(database)
    if (directory === undefined) return false
    // A binding to another image may have brought the directory back, without these entries.
    const isGone = database.readNode(directory)?.links === 0
    if (!isGone || database.deleteEntries(directory, atOnce) < atOnce) write(others)
    return true
  }

  async function deleteAll(): Promise<void> {
    try {
      do await nextPiece()
      while (!isStopped && (await deletePieceSoon()))
    } catch {
      // The entries do no harm. The next opening of the layer tries again.
    }
  }

  async function deletePieceSoon(): Promise<boolean> {
    // While the disk is slow, the log would grow by all of the entries.
    await transactions.whenLogIsShort()
    try {
      return transactions.run(deletePiece)
    } catch (error) {
      if (!(error instanceof FileSystemError && error.until)) throw error
      await error.until
      return true
    }
  }

  return {
    drop(directory) {
      if (database.deleteEntries(directory, atOnce) < atOnce) return
      write([...readDropped(database), directory])
      mayBeLeft = true
    },
    goOn() {
      if (!mayBeLeft || going) return
      mayBeLeft = false
      if (readDropped(database).length > 0) going = deleteAll().finally(() => (going = undefined))
    },
    async stop() {
      isStopped = true
      await going
    },
  }
}
