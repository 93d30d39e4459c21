/**
 * Truncated files. A file is cut off only after the commit, so that the operation can be undone. If
 * the server is killed in between, the next opening cuts the file off: the kept reply says that this
 * was done.
 */
import * as v from 'valibot'

import type { NodeId } from '../protocols/nfs/file-system.ts'
import type { LayerDatabase } from './database.ts'

const cutsSchema = v.pipe(
  v.string(),
  v.parseJson(),
  v.array(
    v.object({
      node: v.number(),
      size: v.number(),
      changed: v.object({ seconds: v.number(), nanoseconds: v.number() }),
    }),
  ),
)

/**
 * To be called before the commit, when the rows are written.
 *
 * @param cuts files that will be cut off, with their new sizes
 */
export function noteCuts(database: LayerDatabase, cuts: readonly [NodeId, number][]): void {
  const noted = cuts.flatMap(([node, size]) => {
    const row = database.readNode(node)
    return row ? [{ node, size, changed: row.changed }] : []
  })
  if (noted.length > 0) database.writeMeta('cuts', JSON.stringify(noted))
}

/**
 * The last noted cuts that may not be done. Every operation gives a node another time of change. So
 * a file with another time was cut off before, and may be longer again by now.
 */
export function unsettledCuts(database: LayerDatabase): { node: NodeId; size: number }[] {
  const noted = v.safeParse(cutsSchema, database.readMeta('cuts'))
  if (!noted.success) return []
  return noted.output.filter(({ node, changed }) => {
    const row = database.readNode(node)
    return (
      row?.ownData === true &&
      row.changed.seconds === changed.seconds &&
      row.changed.nanoseconds === changed.nanoseconds
    )
  })
}
