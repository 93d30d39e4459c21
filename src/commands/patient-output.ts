/**
 * Writes to an output, and never blocks until somebody reads it.
 *
 * Node blocks while it writes to a terminal. A terminal can be stopped (Ctrl-S), or its connection
 * can hang. The server would serve no machine in the meantime.
 */
import { constants, openSync, writeSync } from 'node:fs'

import { errnoOf } from '../errors.ts'

export interface PatientOutput {
  /** Whether nobody has read the last text yet. */
  readonly isBehind: boolean
  /** Drops the text if too much text waits already. */
  write(text: string): void
}

export type Stream = NodeJS.WriteStream & { fd: number }

const maxWaitingBytes = 1 << 18
const retryMs = 500

export function patientOutput(stream: Stream): PatientOutput {
  const terminal = stream.isTTY ? openAgain(stream.fd) : undefined
  return terminal === undefined ? toStream(stream) : toTerminal(terminal)
}

/**
 * Node does not block on pipes. If the reader of a pipe ends, other commands end as well, but
 * `serve` must go on.
 */
function toStream(stream: Stream): PatientOutput {
  stream.removeAllListeners('error').on('error', () => {})
  return {
    get isBehind() {
      return stream.writableLength > 0
    },
    write(text) {
      if (stream.writable && stream.writableLength < maxWaitingBytes) stream.write(text)
    },
  }
}

/**
 * Opens the terminal again, because `O_NONBLOCK` holds for every program that shares the open file,
 * and other programs, such as the shell, expect a terminal that blocks.
 */
function openAgain(descriptor: number): number | undefined {
  const { O_WRONLY, O_NONBLOCK, O_NOCTTY } = constants
  try {
    return openSync(`/dev/fd/${descriptor}`, O_WRONLY | O_NONBLOCK | O_NOCTTY)
  } catch {
    // The terminal belongs to another user, for example after `su`.
    return undefined
  }
}

function toTerminal(file: number): PatientOutput {
  let waiting = Buffer.alloc(0)
  let timer: NodeJS.Timeout | undefined

  function flush(): void {
    clearTimeout(timer)
    try {
      while (waiting.length > 0) waiting = waiting.subarray(writeSync(file, waiting))
    } catch (error) {
      if (errnoOf(error) === 'EAGAIN') timer = setTimeout(flush, retryMs).unref()
      // The terminal was closed.
      else waiting = Buffer.alloc(0)
    }
  }

  return {
    get isBehind() {
      flush()
      return waiting.length > 0
    },
    write(text) {
      if (waiting.length > maxWaitingBytes) return
      waiting = Buffer.concat([waiting, Buffer.from(text)])
      flush()
    },
  }
}
