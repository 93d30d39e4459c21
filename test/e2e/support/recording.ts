// Records the output of a program, with the time of each line, and waits for lines.

import { waitFor as waitForEvent } from '../../support/waiting.ts'

export type Line = {
  /** Seconds since the start of the program. */
  seconds: number
  text: string
}

export type Recording = {
  lines: () => readonly Line[]
  /** The last lines, for error messages. */
  tail: (count: number) => string
  waitFor: WaitFor
  add: (chunk: string) => void
  /** The output has ended: rejects all waits with this reason. */
  end: (why: string) => void
}

/**
 * Finds the first line that matches, among the printed lines and those to come.
 *
 * @param after looks only at lines after this number of lines
 * @throws if the program or the test has ended before
 */
export type WaitFor = (pattern: RegExp, after?: number) => Promise<Line>

type Waiter = { pattern: RegExp; resolve: (line: Line) => void; reject: (error: Error) => void }

// eslint-disable-next-line no-control-regex
const otherControl = /\x1b\[[0-9;=?]*[A-Za-z]|\x1b[()][A-Z0-9]|[\x00\x07\x08\r]/g
/** A move of the cursor with its column, another control sequence, or text. */
// eslint-disable-next-line no-control-regex
const parts = new RegExp(
  `\\x1b\\[\\d*;(\\d*)H|${otherControl.source}|[^\\x1b\\x00\\x07\\x08\\r]+|\\x1b`,
  'g',
)

/**
 * SeaBIOS is interrupted by itself also within the control sequence of a move. The other move then
 * stands inside of the interrupted one.
 */
// eslint-disable-next-line no-control-regex
const nestedMove = /(\x1b(?:\[[\d;]*)?)(\x1b\[\d*;\d*H)(?=\[?[\d;]*(?:H|$))/g
/** The rest of the sequence comes with the next output. */
// eslint-disable-next-line no-control-regex
const begunSequence = /\x1b(?:\[[\d;=?]*|[()])?$/

export type RecordingRequest = {
  /** Makes an error message from its first sentence, with details. */
  describe: (what: string) => string
  onLine: (line: Line) => void
  /** The program prints this only if it has failed for good. */
  hopeless?: RegExp
}

export function startRecording({ describe, onLine, hopeless }: RecordingRequest): Recording {
  const started = performance.now()
  const elapsed = () => (performance.now() - started) / 1000
  const finished: Line[] = []
  const waiters = new Set<Waiter>()
  // The last line may have no end yet: it may be a prompt.
  let last = { seconds: 0, raw: '' }
  let ending: string | undefined
  let despair: string | undefined

  const lines = (): Line[] => {
    const text = clean(last.raw)
    return text === '' ? finished : [...finished, { seconds: last.seconds, text }]
  }

  function add(chunk: string): void {
    if (ending !== undefined) return
    const now = elapsed()
    if (last.raw === '') last.seconds = now
    const broken = breakAtMoves(last.raw + chunk).split('\n')
    const rest = broken.pop() ?? ''
    const fresh: Line[] = []
    for (const part of broken) {
      const line = { seconds: last.seconds, text: clean(part) }
      last.seconds = now
      if (line.text === '') continue
      fresh.push(line)
      finished.push(line)
      onLine(line)
    }
    last.raw = rest
    if (rest !== '') fresh.push({ seconds: last.seconds, text: clean(rest) })
    for (const waiter of waiters) {
      const line = fresh.find(({ text }) => waiter.pattern.test(text))
      if (line) waiter.resolve(line)
    }
    const sign = hopeless && fresh.find(({ text }) => hopeless.test(text))
    if (sign) rejectAll((despair = `gave up ("${sign.text.trim()}")`))
  }

  function end(why: string): void {
    if (ending !== undefined) return
    if (clean(last.raw) !== '') add('\n')
    ending = why
    rejectAll(why)
  }

  function rejectAll(why: string): void {
    for (const waiter of waiters) waiter.reject(failure(waiter.pattern, why))
  }

  function failure(pattern: RegExp, why: string): Error {
    return new Error(describe(`${why} before it printed ${pattern}`))
  }

  async function waitFor(pattern: RegExp, after = 0): Promise<Line> {
    const found = lines().find(({ text }, at) => at >= after && pattern.test(text))
    if (found) return found
    const why = ending ?? despair
    if (why !== undefined) throw failure(pattern, why)
    const { promise, resolve, reject } = Promise.withResolvers<Line>()
    const waiter = { pattern, resolve, reject }
    waiters.add(waiter)
    try {
      return await waitForEvent(() => describe(`has not printed ${pattern}`), promise)
    } finally {
      waiters.delete(waiter)
    }
  }

  const tail = (count: number) =>
    lines()
      .slice(-count)
      .map(({ seconds, text }) => `${seconds.toFixed(2).padStart(8)}  ${text}`)
      .join('\n')

  return { lines, tail, waitFor, add, end }
}

/**
 * Firmware uses its console as a screen: a move of the cursor begins another line. But if SeaBIOS
 * pauses within a line, it moves the cursor to the present column, or to the one before and then
 * prints the last character again. If moves follow each other, only the last one counts.
 */
function breakAtMoves(text: string): string {
  let [done, move, column] = ['', '', 0]
  const whole = text.replace(nestedMove, '$2$1')
  const [begun = ''] = begunSequence.exec(whole) ?? []
  for (const [part, movesTo] of whole.slice(0, whole.length - begun.length).matchAll(parts)) {
    if (movesTo !== undefined) [move, column] = [part, Number(movesTo)]
    else if (part.startsWith('\x1b')) done += part
    else {
      if (move !== '' && part !== '\r') done = moveTo(column, done, part)
      move = ''
      done += part
    }
  }
  // What follows the move is not known yet.
  return done + move + begun
}

function moveTo(column: number, done: string, next: string): string {
  const start = done.lastIndexOf('\n') + 1
  const line = withoutControl(done.slice(start))
  if (column > 1 && column === line.length + 1) return done
  if (column <= 1 || column !== line.length) return `${done}\n`
  return next.startsWith('\n') ? done : done.slice(0, start) + line.slice(0, -1)
}

function clean(text: string): string {
  return withoutControl(text).trimEnd()
}

function withoutControl(text: string): string {
  return text.replace(otherControl, '')
}
