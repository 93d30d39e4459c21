/**
 * Writes without ever waiting for whoever reads.
 *
 * Node waits for a terminal, and a terminal may be stopped (Ctrl-S), or be at the other end of a
 * connection that sleeps: no machine would be served until it goes on.
 */
import { constants, openSync, writeSync } from 'node:fs'

import { errnoOf } from '../errors.ts'

export interface PatientOutput {
  /** Whether what was written last still waits to be read. */
  readonly isBehind: boolean
  /** What comes while too much waits is lost. */
  write(text: string): void
}

export type Stream = NodeJS.WriteStream & { fd: number }

const maxWaitingBytes = 1 << 18
const retryMs = 500

export function patientOutput(stream: Stream): PatientOutput {
  const terminal = stream.isTTY ? openAgain(stream.fd) : undefined
  return terminal === undefined ? toStream(stream) : toTerminal(terminal)
}

/** Node never waits for pipes. Whoever stops reading one ends other commands, but none that serves. */
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

/** By a way in of its own: other programs, such as the shell, want to wait for the same terminal. */
function openAgain(descriptor: number): number | undefined {
  const { O_WRONLY, O_NONBLOCK, O_NOCTTY } = constants
  try {
    return openSync(`/dev/fd/${descriptor}`, O_WRONLY | O_NONBLOCK | O_NOCTTY)
  } catch {
    // It is somebody else's, as after `su`.
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
      // The terminal is gone.
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
