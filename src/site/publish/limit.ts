/** Limits what a machine can make the server do for one published system. */
import { NetimageError } from '../../errors.ts'
import type { FileSystem } from '../../protocols/nfs/file-system.ts'
import { openFloor } from '../../roots/floor.ts'
import { refused } from './root-files.ts'

export interface Amount {
  files: number
  bytes: number
}

export interface Limit {
  /** @throws `NetimageError` `bad-system` if all amounts together are more than the limit */
  take: (amount: Amount) => void
}

/**
 * The room on the disk for all files that the server makes for one published system. They count as
 * files of the machine, and leave the floor of the disk free: see `openFloor`.
 *
 * @param directory exists
 * @returns to be called before the room is taken. Throws `ENOSPC`, and `NetimageError` `bad-system` if
 *   the machine has reached its own limit
 */
export function openPublishRoom(
  root: Pick<FileSystem, 'space'>,
  directory: string,
): (amount: Amount) => void {
  const floor = openFloor(directory)
  const { total, available } = root.space()
  let taken = 0
  return ({ files, bytes }) => {
    floor.take(bytes, files)
    taken += bytes
    // Some file systems do not tell how many bytes they can hold.
    if (total === 0 || taken <= available) return
    throw refused(
      `its boot files need more room than this machine has left: ${available} bytes`,
      'Run nix-collect-garbage -d on the machine. Or give its layer more room on the server: netimage serve --layer-size.',
    )
  }
}

/**
 * @param what the subject of the error: `the files of the system`
 * @param takeRoom from `openPublishRoom`
 */
export function limitTo(most: Amount, what: string, takeRoom: (amount: Amount) => void): Limit {
  const taken = { files: 0, bytes: 0 }
  return {
    take({ files, bytes }) {
      taken.files += files
      taken.bytes += bytes
      if (taken.files > most.files) throw tooMuch(what, most.files, 'files')
      if (taken.bytes > most.bytes) throw tooMuch(what, most.bytes, 'bytes')
      takeRoom({ files, bytes })
    },
  }
}

function tooMuch(what: string, most: number, unit: 'files' | 'bytes'): NetimageError {
  return new NetimageError('bad-system', `${what} are more than ${most} ${unit}`, {
    details: { expected: most, field: unit },
    hint: 'Build the system with fewer or smaller kernels, initrds, device trees or specialisations.',
  })
}
