/**
 * A binding that would take long, because the machine has given very many names, or the image brings very many
 * files. It goes on in pieces while the server answers others, in a copy of the database. The copy takes the place
 * of the database at the end. So the layer is as before until then, and no transaction is large: SQLite could not
 * commit a large one in pieces.
 */
import { randomBytes } from 'node:crypto'
import { constants, renameSync } from 'node:fs'
import { copyFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'

import { makeDirectory } from '../make-directory.ts'
import { removeTree } from '../remove-tree.ts'
import { syncDirectorySoon } from '../sync-directory.ts'
import { syncFileSoon } from '../sync-file.ts'
import { databaseFile, openLayerDatabase, type LayerDatabase } from './database.ts'
import { SyncFailure } from './failure.ts'
import { inShortTransactions, inTransaction, type InTransactions } from './in-transaction.ts'
import { mustHaveNoLog } from './log-file.ts'
import { giveToOwnerOf } from './owner.ts'
import { UnpreparedCopies } from './prepare-copies.ts'
import { doInPieces, waitFor, type Steps } from './steps.ts'
import { layerError } from './store.ts'
import { UnreadyLayer } from './unready-layer.ts'

/** As many steps are done at first, while everybody waits. Most take some microseconds. */
const mostAtFirst = 2000

/** Binds the layer of a database. */
type Bind = (database: LayerDatabase, inTransactions: InTransactions) => Steps

/** A layer is not bound yet. It is as before until all is done. */
export class UnfinishedBinding extends UnreadyLayer {
  readonly #database: LayerDatabase
  readonly #directory: string
  readonly #bind: Bind

  /**
   * @param database which is closed here
   * @param directory of the contents of the layer
   */
  constructor(database: LayerDatabase, directory: string, bind: Bind) {
    super('the binding goes on')
    this.#database = database
    this.#directory = directory
    this.#bind = bind
  }

  async makeReady(end: AbortSignal, stop = end): Promise<void> {
    const directory = this.#directory
    // It is swept if this process is killed.
    const scratch = join(dirname(directory), `.new-${randomBytes(6).toString('hex')}`)
    try {
      await this.#close()
      makeDirectory(scratch)
      await this.#bindCopy(scratch, end)
    } catch (error) {
      if (error instanceof SyncFailure) throw error
      if (!(error instanceof UnpreparedCopies))
        throw layerError(`could not bind the layer ${directory}`, directory, error)
      await error.makeReady(end, stop)
    } finally {
      removeTree(scratch)
      this.held.dispose()
    }
  }

  override giveUp(): void {
    this.#database.close()
    super.giveUp()
  }

  /** Afterwards, everything is in the database and on the disk. */
  async #close(): Promise<void> {
    try {
      await this.#database.moveLog()
    } finally {
      this.#database.close()
    }
    mustHaveNoLog(databaseFile(this.#directory))
  }

  async #bindCopy(scratch: string, end: AbortSignal): Promise<void> {
    const [file, copy] = [databaseFile(this.#directory), databaseFile(scratch)]
    await copyFile(file, copy, constants.COPYFILE_FICLONE)
    const database = openLayerDatabase(scratch)
    try {
      using steps = this.#bind(database, inShortTransactions)
      await doInPieces(steps, end)
    } finally {
      database.close()
    }
    mustHaveNoLog(copy)
    giveToOwnerOf(this.#directory, copy)
    await syncFileSoon(copy)
    renameSync(copy, file)
    await syncDirectorySoon(this.#directory)
  }
}

/**
 * @param bind ends with a commit, and undoes all if it is ended before
 * @throws `UnfinishedBinding` if there are many steps, and errors of the steps
 */
export function* finish(database: LayerDatabase, directory: string, bind: Bind): Steps {
  using steps = bind(database, inTransaction)
  for (let count = 0; count < mostAtFirst; count++) {
    const step = steps.next()
    if (step.done) {
      yield* waitFor(
        () => database.syncNow(),
        () => database.sync(),
      )
      return
    }
    if (step.value) yield step.value
  }
  throw new UnfinishedBinding(database, directory, bind)
}
