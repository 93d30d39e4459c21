/**
 * The structures of the store paths that a machine has used.
 *
 * A machine keeps the numbers of nodes, also while the server is restarted. If somebody adds or
 * removes a file in a store path meanwhile, the same numbers name other files. So the layer records
 * the structure of each store path when the machine first uses a node inside, and compares later.
 */
import { NetimageError } from '../errors.ts'
import type { LayerDatabase } from './database.ts'
import { repairHint } from './image-damage.ts'
import type { ImageIndex, Part } from './image-index.ts'
import type { UsesPath } from './layer-image.ts'

export interface PathStructures {
  /** @throws `NetimageError` `image-damaged` if the path has changed, and as `ImageIndex.structureOf` */
  uses: UsesPath
  /** Writes structures that could not be written when their paths were first used. */
  record(): void
}

export function createPathStructures(index: ImageIndex, database: LayerDatabase): PathStructures {
  /** The index never gives another structure while it is open, so each path is compared once. */
  const compared = new Map<Part, NetimageError | undefined>()
  const unrecorded = new Map<number, string>()

  function compare(part: Part, path: number): NetimageError | undefined {
    const now = index.structureOf(part)
    const before = database.structureOf(path)
    if (before === undefined) unrecorded.set(path, now)
    return before === undefined || before === now ? undefined : otherFiles(index.shownTop(part))
  }

  /**
   * Not in a transaction of the machine: on a full disk, SQLite would undo all of the transaction.
   */
  function record(): void {
    if (unrecorded.size === 0 || database.isInTransaction()) return
    try {
      for (const [path, structure] of unrecorded) {
        if (database.structureOf(path) === undefined) database.writeStructure(path, structure)
        unrecorded.delete(path)
      }
    } catch {
      // A machine can read although the disk is full. After the next commit, there is room again.
    }
  }

  return {
    uses(part, path) {
      if (!compared.has(part)) {
        compared.set(part, compare(part, path))
        record()
      }
      const refusal = compared.get(part)
      if (refusal) throw refusal
    },
    record,
  }
}

function otherFiles(file: string): NetimageError {
  return new NetimageError(
    'image-damaged',
    `${file} has other files than when the machine first used it`,
    {
      details: { file },
      hint: `${repairHint} Or remove what the machine wrote: netimage layers reset.`,
    },
  )
}
