/** Runs the command of a person that restarts a machine. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'

import { messageOf } from '../errors.ts'
import { visible } from '../printable.ts'
import { endGroup, endGroupOn } from '../process-group.ts'

/** A command that takes longer is ended. Milliseconds. */
const longestRestartMs = 60_000
/** After a command has ended, the rest of its output is read for so long. Milliseconds. */
const outputMs = 500
const keptCharacters = 500

/**
 * The command runs as the user of the server, without a shell. It never throws: what fails is told.
 *
 * @param signal ends the command and all that it started
 * @returns what came of it, as the end of a sentence
 */
export async function restartMachine(
  command: readonly string[],
  signal: AbortSignal,
  longestMs = longestRestartMs,
): Promise<string> {
  return `has run ${visible(command.join(' '))}, which ${await run(command, signal, longestMs)}`
}

async function run(
  [program = '', ...args]: readonly string[],
  signal: AbortSignal,
  longestMs: number,
): Promise<string> {
  const late = AbortSignal.timeout(longestMs)
  let output = ''
  try {
    // A process group of its own, so that its end is also that of all that it started.
    const child = spawn(program, args, { detached: true, stdio: ['ignore', 'pipe', 'pipe'] })
    const keep = (text: Buffer) => (output = (output + text.toString()).slice(-keptCharacters))
    child.stdout.on('data', keep)
    child.stderr.on('data', keep)
    const release = endGroupOn(AbortSignal.any([signal, late]), child)
    // What it left running would keep the output open.
    child.on('exit', () => {
      endGroup(child, 'SIGKILL')
      // A program in a session of its own has not ended, and may keep the output open for ever.
      setTimeout(() => {
        child.stdout.destroy()
        child.stderr.destroy()
      }, outputMs)
    })
    const [status, endedBy] = await once(child, 'close').finally(release)
    const said = visible(output.trim().replaceAll(/\s*\n\s*/g, ' / '))
    const how = late.aborted
      ? `was ended after ${longestMs / 1000} seconds`
      : `ended with status ${status ?? endedBy}`
    return said === '' ? how : `${how}: ${said}`
  } catch (error) {
    return `could not be started: ${messageOf(error)}`
  }
}
