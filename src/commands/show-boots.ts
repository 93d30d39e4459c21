/**
 * Shows boots while they happen: on a terminal a table that is redrawn, a machine a line; elsewhere
 * a JSON object a line, for each event and for each boot that hangs.
 */
import type { ServeEvent } from '../serve/event.ts'
import { stallOf, type Boot } from '../serve/boots/follow.ts'
import { formatBytes, formatSeconds } from './format.ts'

export interface BootView {
  see(boot: Boot, event: ServeEvent, at: number): void
  close(): void
}

const redrawMs = 500
const lookMs = 1000

/**
 * @param boots the last boot of each machine
 * @param json lines also on a terminal
 */
export function showBoots(
  output: NodeJS.WriteStream,
  boots: () => Boot[],
  json: boolean,
): BootView {
  return output.isTTY && !json ? onTerminal(output, boots) : asLines(output, boots)
}

function onTerminal(output: NodeJS.WriteStream, boots: () => Boot[]): BootView {
  let drawn = 0
  const draw = () => {
    const lines = table(boots(), Date.now(), output.columns || 80).slice(-((output.rows || 24) - 2))
    const up = drawn > 0 ? `\u001b[${drawn}A` : ''
    output.write(`${up}\r\u001b[J${lines.map((line) => `${line}\n`).join('')}`)
    drawn = lines.length
  }
  draw()
  const timer = setInterval(draw, redrawMs)
  return {
    see: () => undefined,
    close() {
      clearInterval(timer)
      draw()
    },
  }
}

/** The lines of the table, none wider than the terminal. */
export function table(boots: readonly Boot[], now: number, width: number): string[] {
  if (boots.length === 0) return ['waiting for machines…']
  const heading = row(['MACHINE', 'ADDRESS', 'STEP', 'SINCE', 'SENT', ''])
  const lines = [...boots]
    .sort((a, b) => a.started - b.started)
    .flatMap((boot) => describe(boot, now))
  return [heading, ...lines].map((line) => line.slice(0, Math.max(20, width - 1)))
}

function describe(boot: Boot, now: number): string[] {
  const reached = boot.steps[boot.step] ?? boot.started
  const since = formatSeconds(Math.max(0, now - reached) / 1000)
  const note =
    boot.step === 'registered'
      ? `up ${formatSeconds((reached - boot.started) / 1000)} after power-on`
      : (boot.trouble ?? '')
  const address = boot.address ?? ''
  const line = row([boot.machine, address, boot.step, since, formatBytes(boot.bytes), note])
  const stall = stallOf(boot, now)
  if (!stall) return [line]
  return [
    line,
    `  expected next: ${stall.next}; likely: ${stall.causes.slice(0, 2).join('; or ')}`,
    `  see docs/troubleshooting.md, “after ${boot.step}”`,
  ]
}

const widths = [17, 15, 10, 9, 9]

function row(cells: readonly string[]): string {
  return cells
    .map((cell, index) => cell.padEnd(widths[index] ?? 0))
    .join('  ')
    .trimEnd()
}

function asLines(output: NodeJS.WriteStream, boots: () => Boot[]): BootView {
  const print = (line: object) => void output.write(`${JSON.stringify(line)}\n`)
  // A boot that hangs is told of once, until it gives another sign.
  const told = new Map<string, number>()
  const look = () => {
    for (const boot of boots()) {
      const stall = stallOf(boot, Date.now())
      if (!stall || told.get(boot.machine) === boot.lastSign) continue
      told.set(boot.machine, boot.lastSign)
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
    close: () => clearInterval(timer),
  }
}
