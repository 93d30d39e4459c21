/** What is kept of layers has a format; that of a newer netimage is left as it is. */
import { NetimageError } from '../errors.ts'
import { version } from '../version.ts'

export const writer = `netimage ${version}`

/**
 * @param what is of the newer format
 * @param by what that says of the program that wrote it
 */
export function newerFormat(what: string, by: unknown): NetimageError {
  const isName = typeof by === 'string' && /^netimage [\w.+-]{1,40}$/.test(by)
  const program = isName ? by : 'a newer netimage'
  return new NetimageError(
    'bad-state',
    `${what} was written by ${program}, and ${writer} does not know that format`,
    {
      hint: `Use ${program} for it. Or forget all that the machine wrote: netimage layers remove.`,
    },
  )
}
