// A program that a test has started. Its output is recorded, and it ends with the test process.

import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, constants, createWriteStream, mkdtempSync, openSync, rmSync } from 'node:fs'
import { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { findProgram } from '../../support/packages.ts'
import { childrenOf } from '../../support/processes.ts'
import { waitFor } from '../../support/waiting.ts'
import { startRecording, type Line, type WaitFor } from './recording.ts'

export type Program = {
  name: string
  pid: number
  lines: () => readonly Line[]
  /** If the program ends, this rejects at once with the last lines. */
  waitFor: WaitFor
  type: (text: string) => void
  /** Waits until the program ends by itself with status 0. */
  waitForEnd: () => Promise<void>
  isRunning: () => boolean
  /** Kills the program, and waits until all its processes are gone. */
  kill: () => Promise<void>
  /** The last lines of its output, for error messages. */
  tail: (count: number) => string
}

export type ProgramRequest = {
  name: string
  command: readonly string[]
  /** The file for all output of the program. */
  log: string
  /** The other programs: if this one fails, their output may show the reason. */
  others: () => readonly Program[]
  /** The program prints this only if it has failed for good. */
  hopeless?: RegExp
}

const [ownLines, otherLines] = [40, 12]

export function startProgram(request: ProgramRequest): Program {
  const { name, command, log, others } = request
  const setpriv = findProgram('setpriv')
  const output = openPipe()
  const child = spawn(setpriv, [...dieWithUs, ...command], {
    stdio: ['pipe', output.write, 'pipe'],
  })
  closeSync(output.write)
  const { pid, stdin, stderr } = child
  if (pid === undefined || !stdin || !stderr) {
    throw new Error(`could not start ${name}: ${command.join(' ')}`)
  }

  const file = createWriteStream(log)
  const recording = startRecording({
    describe,
    onLine: ({ seconds, text }) => void file.write(`${seconds.toFixed(2)} ${text}\n`),
    ...(request.hopeless && { hopeless: request.hopeless }),
  })
  for (const stream of [output.read, stderr]) {
    stream.setEncoding('utf8').on('data', (chunk: string) => recording.add(chunk))
  }
  // The program may have ended before it reads its input.
  stdin.on('error', () => {})

  let isRunning = true
  const outputEnded = once(output.read, 'close')
  const ended = new Promise<number | null>((resolve) => {
    child.on('close', (status) => {
      void outputEnded.then(() => {
        isRunning = false
        recording.end(`ended with status ${status}`)
        file.end()
        resolve(status)
      })
    })
  })

  function describe(what: string): string {
    const rest = others()
      .filter((other) => other !== program && other.isRunning() && other.lines().length > 0)
      .map((other) => `--- ${other.name}:\n${other.tail(otherLines)}`)
    const introduction = `${name} ${what}. Its last lines (all of them: ${log}):`
    return [introduction, recording.tail(ownLines), ...rest].join('\n')
  }

  async function waitForEnd(): Promise<void> {
    const status = await waitFor(() => describe('has not ended'), ended)
    if (status !== 0) throw new Error(describe(`ended with status ${status}`))
  }

  const program: Program = {
    name,
    pid,
    lines: recording.lines,
    waitFor: recording.waitFor,
    tail: recording.tail,
    waitForEnd,
    isRunning: () => isRunning,
    type: (text) => void stdin.write(text),
    async kill() {
      if (isRunning) {
        recording.end('was ended by the test')
        for (const target of processesToKill(pid)) killProcess(target)
      }
      await ended
    },
  }
  return program
}

/**
 * A pipe of the kernel. Node's own "pipes" are sockets, and such a socket is full after 278 writes of
 * one character each. A machine in QEMU writes its console like that, and QEMU drops what it cannot
 * write: characters were lost whenever this process was busy for the time of one long line.
 */
function openPipe(): { read: Socket; write: number } {
  const directory = mkdtempSync(join(tmpdir(), 'netimage-pipe-'))
  try {
    const path = join(directory, 'pipe')
    execFileSync('mkfifo', [path])
    const read = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
    return { read: new Socket({ fd: read, writable: false }), write: openSync(path, 'w') }
  } finally {
    rmSync(directory, { recursive: true })
  }
}

// The kernel kills the program if this process ends, even if this process could not clean up.
const dieWithUs = ['--pdeathsig', 'KILL', '--']

/**
 * If the first process of a process namespace is killed, the kernel ends all processes of the
 * namespace before its parent gets the status. The parent is the process that we started, so it
 * ends by itself.
 */
function processesToKill(pid: number): number[] {
  try {
    const children = childrenOf(pid)
    return children.length === 0 ? [pid] : children
  } catch {
    return []
  }
}

function killProcess(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // The process has ended meanwhile.
  }
}
