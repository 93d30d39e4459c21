/**
 * A binding that would take long, because the machine has given very many names. It goes on in pieces,
 * in one transaction, while the server answers others.
 */
import { doInPieces, waitFor, type Steps } from './steps.ts'
import type { LayerDatabase } from './database.ts'
import { SyncFailure } from './failure.ts'
import { UnpreparedCopies } from './prepare-copies.ts'
import { layerError } from './store.ts'
import { UnreadyLayer } from './unready-layer.ts'

/** As many steps are done at first, while everybody waits. Most take some microseconds. */
const mostAtFirst = 2000

/** A layer is not bound yet. It is as before until all is committed. */
export class UnfinishedBinding extends UnreadyLayer {
  readonly #database: LayerDatabase
  readonly #directory: string
  readonly #steps: Steps

  /**
   * @param database which is closed at the end; its transaction is open
   * @param directory of the contents of the layer
   */
  constructor(database: LayerDatabase, directory: string, steps: Steps) {
    super('the binding goes on')
    this.#database = database
    this.#directory = directory
    this.#steps = steps
  }

  async makeReady(signal: AbortSignal): Promise<void> {
    try {
      try {
        await doInPieces(this.#steps, signal)
        await this.#database.moveLog()
      } finally {
        this.#close()
      }
    } catch (error) {
      if (error instanceof SyncFailure) throw error
      if (!(error instanceof UnpreparedCopies))
        throw layerError(`could not bind the layer ${this.#directory}`, this.#directory, error)
      await error.makeReady(signal)
    } finally {
      this.held.dispose()
    }
  }

  override giveUp(): void {
    this.#close()
    super.giveUp()
  }

  #close(): void {
    // Undoes what is not committed.
    this.#steps.return()
    this.#database.close()
  }
}

/**
 * @param steps which end with a commit, and undo all if they are ended before
 * @throws `UnfinishedBinding` if there are many, and errors of the steps
 */
export function* finish(database: LayerDatabase, directory: string, steps: Steps): Steps {
  let isUnfinished = false
  try {
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
    isUnfinished = true
  } finally {
    if (!isUnfinished) steps.return()
  }
  throw new UnfinishedBinding(database, directory, steps)
}
