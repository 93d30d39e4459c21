import { NetimageError } from '../errors.ts'

/**
 * @param problem why the machine cannot get its files now
 * @param machine its name or address
 */
export function askAgain(problem: string, machine: string): NetimageError {
  return new NetimageError('in-use', problem, {
    details: { field: machine },
    hint: 'The machine gets its files when it asks again.',
  })
}
