/** Refuses symbolic links among the files of layers. netimage makes none. */
import { lstatSync } from 'node:fs'
import { dirname, join } from 'node:path'

import { NetimageError } from '../errors.ts'
import { namesIn } from './names-in.ts'

/**
 * Root must not follow links that the user of a server has put into a layer. The files in the
 * `data` folders are not checked here, because they are always opened without following links.
 *
 * @param directory of the layer
 * @throws `NetimageError` `bad-state`
 */
export function refuseLinks(directory: string): void {
  if (process.geteuid?.() !== 0) return
  const machine = dirname(directory)
  for (const path of [dirname(machine), machine, `${directory}.lock`]) refuseLink(path)
  refuseBelow(directory, 3)
}

function refuseBelow(path: string, depth: number): void {
  if (!refuseLink(path) || depth === 0) return
  for (const name of namesIn(path)) refuseBelow(join(path, name), name === 'data' ? 0 : depth - 1)
}

/** @returns whether it is a directory */
function refuseLink(path: string): boolean {
  const stat = lstatSync(path, { throwIfNoEntry: false })
  if (!stat?.isSymbolicLink()) return stat?.isDirectory() ?? false
  throw new NetimageError(
    'bad-state',
    `${path} is a symbolic link, and root follows no links there`,
    {
      details: { file: path },
      hint: 'Find out who made the link, and remove it. netimage makes no links among layers.',
    },
  )
}
