/**
 * Shows progress on stderr, because stdout has only the result. On a terminal one line is redrawn;
 * elsewhere there are plain lines.
 */
import { performance } from 'node:perf_hooks'

import { plural, type Amounts, type Progress, type Task } from '../progress.ts'
import { visibleLines } from '../printable.ts'
import { formatBytes, formatSeconds } from './format.ts'

type Done = Amounts & { downloaded?: number }

/** Plain lines for a long task come at most this often. */
const plainIntervalMs = 5000
const redrawMs = 100
const eraseLine = '\r\u001b[K'

export function showProgress(output: NodeJS.WriteStream): Progress {
  return output.isTTY ? onTerminal(output) : asLines(output)
}

function onTerminal(output: NodeJS.WriteStream): Progress {
  return {
    begin(label, total) {
      const start = performance.now()
      let drawn = 0
      const draw = (done: Done) => {
        const line = `${label}  ${describe(done, total, start)}`
        output.write(eraseLine + line.slice(0, Math.max(20, output.columns - 1)))
      }
      draw({})
      return {
        update(done) {
          if (performance.now() - drawn < redrawMs) return
          drawn = performance.now()
          draw(done)
        },
        end(summary) {
          output.write(`${eraseLine}${summary} in ${since(start)}\n`)
        },
      }
    },
    warn: (message) => void output.write(`${eraseLine}warning: ${visibleLines(message)}\n`),
  }
}

function asLines(output: NodeJS.WriteStream): Progress {
  return {
    begin(label, total): Task {
      const start = performance.now()
      let lastLine = start
      return {
        update(done) {
          if (performance.now() - lastLine < plainIntervalMs) return
          lastLine = performance.now()
          output.write(`${label}: ${describe(done, total, start)}\n`)
        },
        end: (summary) => void output.write(`${summary} in ${since(start)}\n`),
      }
    },
    warn: (message) => void output.write(`warning: ${visibleLines(message)}\n`),
  }
}

function since(start: number): string {
  return formatSeconds((performance.now() - start) / 1000)
}

/** `12 of 150 paths, 40 MiB of 300 MiB, 95 MiB/s, 3 s left` */
function describe(done: Done, total: Amounts | undefined, start: number): string {
  const parts: string[] = []
  if (done.paths !== undefined) {
    parts.push(
      total?.paths ? `${done.paths} of ${plural(total.paths, 'path')}` : plural(done.paths, 'path'),
    )
  }
  if (done.bytes !== undefined) {
    const bytes = formatBytes(done.bytes)
    parts.push(total?.bytes ? `${bytes} of ${formatBytes(total.bytes)}` : bytes)
  }
  if (done.downloaded) parts.push(`${formatBytes(done.downloaded)} downloaded`)
  const seconds = (performance.now() - start) / 1000
  if (total?.bytes && done.bytes && seconds > 0.5) {
    const rate = done.bytes / seconds
    parts.push(`${formatBytes(rate)}/s`, `${formatSeconds((total.bytes - done.bytes) / rate)} left`)
  }
  return parts.join(', ')
}
