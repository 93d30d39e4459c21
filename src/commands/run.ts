/** Runs a command: prints its result or its error, sets the exit status, and handles Ctrl-C. */
import { errnoOf, exitStatus, messageOf, NetimageError } from '../errors.ts'
import { printableJson, visibleLines } from '../printable.ts'
import { silentProgress, type Progress } from '../progress.ts'
import { showProgress } from './show-progress.ts'

export interface RunOptions {
  json?: true | undefined
  quiet?: true | undefined
}

export interface Outcome {
  /** For `--json`: one object. */
  json: object
  /** For people: the result on stdout. */
  text: string
  /** Set if the command did its work and found something wrong. */
  exitStatus?: number
}

export interface Surroundings {
  signal: AbortSignal
  progress: Progress
}

/** @param action undefined as its result: it has printed everything itself */
export async function runCommand(
  options: RunOptions,
  action: (surroundings: Surroundings) => Promise<Outcome | undefined>,
): Promise<void> {
  const abort = new AbortController()
  const stop = () => {
    // A second Ctrl-C ends the program at once, even if files are left behind.
    if (abort.signal.aborted) process.exit(exitStatus.interrupted)
    abort.abort(new NetimageError('interrupted', 'interrupted'))
  }
  process.on('SIGINT', stop).on('SIGTERM', stop)
  const quiet = options.quiet ?? false
  const progress = quiet ? silentProgress : showProgress(process.stderr)
  try {
    const outcome = await action({ signal: abort.signal, progress })
    if (!outcome) return
    printLine(options.json ? printableJson(outcome.json, 2) : visibleLines(outcome.text))
    process.exitCode = outcome.exitStatus ?? 0
  } catch (error) {
    // Errors of calls that Node aborted do not give the reason.
    const isAborted = abort.signal.aborted && error instanceof Error && error.name === 'AbortError'
    report(isAborted ? abort.signal.reason : error, options.json ?? false)
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop)
  }
}

/** On stdout. */
export function printLine(text: string): void {
  process.stdout.write(text.endsWith('\n') || text === '' ? text : `${text}\n`)
}

/** The reader of our output may stop reading, as `head` does. That is not an error. */
export function ignoreClosedPipe(): void {
  process.stdout.on('error', (error) => {
    if (errnoOf(error) === 'EPIPE') process.exit(process.exitCode ?? 0)
    throw error
  })
}

export function report(error: unknown, json: boolean): void {
  const known = error instanceof NetimageError ? error : unexpected(error)
  const { code, message, hint } = known
  if (json) printFailure(known)
  const clear = process.stderr.isTTY ? '\r\u001b[K' : ''
  process.stderr.write(`${clear}error: ${visibleLines(message)} [${code}]\n`)
  if (hint) process.stderr.write(`  ${visibleLines(hint)}\n`)
  process.exitCode = known.exitStatus
}

/** Prints an error for `--json`. */
export function printFailure(error: NetimageError): void {
  printLine(printableJson({ error: asData(error) }, 2))
}

/** An error as a part of the output of `--json`. */
export function asData({ code, message, hint, details }: NetimageError): object {
  const more = Object.keys(details).length > 0 && { details }
  return { code, message, ...(hint && { hint }), ...more }
}

function unexpected(error: unknown): NetimageError {
  const where = error instanceof Error && process.env['NETIMAGE_DEBUG'] ? `\n${error.stack}` : ''
  return new NetimageError('internal', `${messageOf(error)}${where}`, {
    cause: error,
    hint: 'This is a defect of netimage. Run the command again with NETIMAGE_DEBUG=1 and report its output.',
  })
}
