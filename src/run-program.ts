/** Runs another program and waits for its end. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { buffer } from 'node:stream/consumers'

import { errnoOf, NetimageError } from './errors.ts'

export interface ProgramRequest {
  /** What the person can do if the program is not installed. */
  hint: string
  signal?: AbortSignal
  /** Whether the program writes directly to our own stderr. */
  showsErrors?: boolean
}

export interface EndedProgram {
  /** The exit status, or the signal that ended it. */
  status: number | string
  stdout: string
  /** Empty if `showsErrors` was set. */
  stderr: string
}

/** @throws `program-missing`, or `interrupted` if the signal ended it */
export async function runProgram(
  program: string,
  args: readonly string[],
  { hint, signal, showsErrors = false }: ProgramRequest,
): Promise<EndedProgram> {
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', showsErrors ? 'inherit' : 'pipe'],
    ...(signal && { signal }),
  })
  const closed = once(child, 'close')
  // We await this promise below. Until then Node must not report a failed start as unhandled.
  closed.catch(() => undefined)
  const output = [child.stdout, child.stderr].map(async (stream) =>
    stream ? (await buffer(stream)).toString() : '',
  )
  try {
    const [status, endedBy] = await closed
    const [stdout = '', stderr = ''] = await Promise.all(output)
    return { status: status ?? endedBy, stdout, stderr }
  } catch (error) {
    if (signal?.aborted) throw new NetimageError('interrupted', 'interrupted', { cause: error })
    if (errnoOf(error) !== 'ENOENT') throw error
    const missing = `the program ${program} is not installed`
    throw new NetimageError('program-missing', missing, {
      ...{ cause: error, hint, details: { expected: program } },
    })
  }
}
