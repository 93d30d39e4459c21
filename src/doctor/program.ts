/** Asks other programs of this computer. */
import { messageOf, NetimageError } from '../errors.ts'
import { runProgram } from '../run-program.ts'

/**
 * - missing: it is not installed
 * - refused: it may not be run, or failed
 */
export type Said =
  | { kind: 'said'; text: string; complaints: string }
  | { kind: 'missing' }
  | { kind: 'refused'; why: string }

/** @throws `NetimageError` `interrupted` */
export async function ask(
  program: string,
  args: readonly string[],
  signal: AbortSignal,
): Promise<Said> {
  try {
    const ended = await runProgram(program, args, { hint: '', signal })
    const { status, stdout, stderr } = ended
    if (status === 0) return { kind: 'said', text: stdout, complaints: stderr }
    return { kind: 'refused', why: stderr.trim().split('\n')[0] || `it ended with ${status}` }
  } catch (error) {
    if (signal.aborted) throw error
    const isMissing = error instanceof NetimageError && error.code === 'program-missing'
    return isMissing ? { kind: 'missing' } : { kind: 'refused', why: messageOf(error) }
  }
}
