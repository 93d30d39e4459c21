/**
 * Shows boots while they happen. On a terminal, draws a table with one line for each machine.
 * Elsewhere, prints one line of JSON for each event and for each boot that hangs.
 */
import type { ServeEvent } from '../protocols/event.ts'
import { saysStall, stallOf, type Boot } from '../boots/follow.ts'
import { remember } from '../remember.ts'
import { printableJson, visible } from '../printable.ts'
import { formatBytes, formatSeconds, wrap } from './format.ts'
import { patientOutput, type PatientOutput, type Stream } from './patient-output.ts'
import { cutTo, padTo, widthOf } from './width.ts'

export interface BootView {
  see(boot: Boot, event: ServeEvent, at: number): void
  /** Shows a line that is not part of a boot; it stays on the screen. */
  say(line: string): void
  close(): void
}

const redrawMs = 500
const lookMs = 1000

export interface ViewStreams {
  output: Stream
  /** Gets the lines of `say` if the output is JSON or is not the same terminal. */
  messages: Stream
}

/**
 * @param boots the last boot of each machine
 * @param json print JSON even on a terminal
 */
export function showBoots(
  { output, messages }: ViewStreams,
  boots: () => Boot[],
  json: boolean,
): BootView {
  const toMessages = patientOutput(messages)
  const lines = patientOutput(output)
  if (json || !output.isTTY) return asLines(lines, toMessages, boots)
  const size = () => ({ width: output.columns || 80, height: output.rows || 24 })
  // If messages go to a terminal, they are drawn above the table, which would overwrite them.
  return onTerminal(lines, messages.isTTY ? undefined : toMessages, boots, size)
}

function onTerminal(
  screen: PatientOutput,
  messages: PatientOutput | undefined,
  boots: () => Boot[],
  size: () => { width: number; height: number },
): BootView {
  let drawn = 0
  const draw = (above = '') => {
    if (above === '' && screen.isBehind) return
    const { width, height } = size()
    const [heading = '', ...rows] = table(boots(), Date.now(), width)
    const lines = [heading, ...rows.slice(-Math.max(1, height - 3))]
    const up = drawn > 0 ? `\u001b[${drawn}A` : ''
    screen.write(`${up}\r\u001b[J${above}${lines.map((line) => `${line}\n`).join('')}`)
    drawn = lines.length
  }
  draw()
  const timer = setInterval(draw, redrawMs)
  return {
    see: () => undefined,
    say(line) {
      if (messages) messages.write(`${visible(line)}\n`)
      else draw(`${visible(line)}\n`)
    },
    close() {
      clearInterval(timer)
      draw()
    },
  }
}

/** The lines of the table, none wider than the terminal. */
export function table(boots: readonly Boot[], now: number, width: number): string[] {
  if (boots.length === 0) return ['waiting for machines…']
  const room = Math.max(20, width - 1)
  const inOrder = boots.toSorted((a, b) => a.started - b.started)
  const rows = inOrder.map((boot) => cellsOf(boot, now))
  const heading = ['MACHINE', 'ADDRESS', 'STEP', 'SINCE', 'SENT']
  const widths = heading.map((_, column) =>
    [...rows, leastCells].reduce((most, cells) => Math.max(most, widthOf(cells[column] ?? '')), 0),
  )
  const inLine = (cells: readonly string[]) =>
    cells.map((cell, column) => padTo(cell, widths[column] ?? 0)).join('  ')
  const lines = inOrder.flatMap((boot, index) =>
    withNotes(inLine(rows[index] ?? []), notesOn(boot, now).map(visible), room),
  )
  return [inLine(heading).trimEnd(), ...lines].map((line) => cutTo(line, room))
}

/** The least widths of columns, so that columns do not move when a number gets another digit. */
const leastCells = ['52:54:00:00:00:01', '10.0.0.100', 'registered', '10.0 s', '10.0 MiB']

function cellsOf(boot: Boot, now: number): string[] {
  const { machine, address = '', bytes, started } = boot
  const reached = boot.steps[boot.step]
  const since = formatSeconds(Math.max(0, now - (reached ?? started)) / 1000)
  return [machine, address, reached === undefined ? '-' : boot.step, since, formatBytes(bytes)]
}

/** Puts one note beside the line if it fits, else all notes below the line. */
function withNotes(line: string, notes: readonly string[], room: number): string[] {
  const together = [line, ...notes].join('  ').trimEnd()
  if (notes.length < 2 && widthOf(together) <= room) return [together]
  return [line.trimEnd(), ...notes.flatMap((note) => wrap(note, room, '  '))]
}

function notesOn(boot: Boot, now: number): string[] {
  const { registered } = boot.steps
  if (registered !== undefined) {
    // A machine that was up before the server started has no times of its boot.
    const seconds = (registered - boot.started) / 1000
    return [seconds > 0 ? `up in ${formatSeconds(seconds)}` : 'up']
  }
  const notes = boot.trouble === undefined ? [] : [boot.trouble]
  const stall = stallOf(boot, now)
  if (!stall) return notes
  return [...notes, saysStall(stall), `see docs/troubleshooting.md, “after ${boot.step}”`]
}

function asLines(output: PatientOutput, messages: PatientOutput, boots: () => Boot[]): BootView {
  const print = (line: object) => output.write(`${printableJson(line)}\n`)
  // Prints a boot that hangs once, until the machine sends something again.
  const told = new Map<string, number>()
  const look = () => {
    for (const boot of boots()) {
      const stall = stallOf(boot, Date.now())
      if (!stall || told.get(boot.machine) === boot.lastSign) continue
      remember(told, boot.machine, boot.lastSign)
      const { machine, step } = boot
      print({
        at: Date.now(),
        machine,
        stalled: { step, expected: stall.next, causes: stall.causes },
      })
    }
  }
  const timer = setInterval(look, lookMs)
  return {
    see: ({ machine, step }, event, at) => print({ at, machine, step, event }),
    say: (line) => messages.write(`${visible(line)}\n`),
    close: () => clearInterval(timer),
  }
}
