/** What all commands share: how they end, what they print, and that Ctrl-C stops them cleanly. */
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
  /** Where the command did its work and found something wrong. */
  exitStatus?: number
}

export interface Surroundings {
  signal: AbortSignal
  progress: Progress
}

export async function runCommand(
  options: RunOptions,
  action: (surroundings: Surroundings) => Promise<Outcome>,
): Promise<void> {
  const abort = new AbortController()
  const stop = () => {
    // The second time a person means it, whatever is left behind.
    if (abort.signal.aborted) process.exit(exitStatus.interrupted)
    abort.abort(new NetimageError('interrupted', 'interrupted'))
  }
  process.on('SIGINT', stop).on('SIGTERM', stop)
  const quiet = options.quiet ?? false
  const progress = quiet ? silentProgress : showProgress(process.stderr)
  try {
    const outcome = await action({ signal: abort.signal, progress })
    print(options.json ? printableJson(outcome.json, 2) : visibleLines(outcome.text))
    process.exitCode = outcome.exitStatus ?? 0
  } catch (error) {
    // What Node itself broke off does not say why.
    const isBrokenOff =
      abort.signal.aborted && error instanceof Error && error.name === 'AbortError'
    report(isBrokenOff ? abort.signal.reason : error, options.json ?? false)
  } finally {
    process.off('SIGINT', stop).off('SIGTERM', stop)
  }
}

function print(text: string): void {
  process.stdout.write(text.endsWith('\n') || text === '' ? text : `${text}\n`)
}

/** Whoever reads our output may stop reading: that is no failure of ours. */
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

/** An error as `--json` gives it. */
export function printFailure({ code, message, hint, details }: NetimageError): void {
  const more = Object.keys(details).length > 0 && { details }
  print(printableJson({ error: { code, message, ...(hint && { hint }), ...more } }, 2))
}

function unexpected(error: unknown): NetimageError {
  const where = error instanceof Error && process.env['NETIMAGE_DEBUG'] ? `\n${error.stack}` : ''
  return new NetimageError('internal', `${messageOf(error)}${where}`, {
    cause: error,
    hint: 'This is a defect of netimage. Run it again with NETIMAGE_DEBUG=1 and report what it prints.',
  })
}
