/** Limits what a machine can make the server do for one published system. */
import { NetimageError } from '../../errors.ts'

export interface Amount {
  files: number
  bytes: number
}

export interface Limit {
  /** @throws `NetimageError` `bad-system` if all amounts together are more than the limit */
  take: (amount: Amount) => void
}

/** @param what the subject of the error: `the files of the system` */
export function limitTo(most: Amount, what: string): Limit {
  const taken = { files: 0, bytes: 0 }
  return {
    take({ files, bytes }) {
      taken.files += files
      taken.bytes += bytes
      if (taken.files > most.files) throw tooMuch(what, most.files, 'files')
      if (taken.bytes > most.bytes) throw tooMuch(what, most.bytes, 'bytes')
    },
  }
}

function tooMuch(what: string, most: number, unit: 'files' | 'bytes'): NetimageError {
  return new NetimageError('bad-system', `${what} are more than ${most} ${unit}`, {
    details: { expected: most, field: unit },
    hint: 'Build the system with fewer or smaller kernels, initrds, device trees or specialisations.',
  })
}
