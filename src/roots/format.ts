/** Formats of the files of layers. A file in a newer format is refused and not changed. */
import { NetimageError } from '../errors.ts'
import { version } from '../version.ts'

export const writer = `netimage ${version}`

/**
 * @param file that has the newer format
 * @param by the name of the program that wrote the file, as the file says
 */
export function newerFormat(file: string, by: unknown): NetimageError {
  const isName = typeof by === 'string' && /^netimage [\w.+-]{1,40}$/.test(by)
  const program = isName ? by : 'a newer netimage'
  return new NetimageError(
    'bad-state',
    `${file} was written by ${program}, and ${writer} does not know that format`,
    {
      details: { file, expected: writer, actual: program },
      hint: `Use ${program} for it. Or remove everything that the machine wrote: netimage layers remove.`,
    },
  )
}
