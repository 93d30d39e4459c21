/** The errors of processes that serve machines. */
import { NetimageError } from '../../errors.ts'
import { plural } from '../../progress.ts'
import { version } from '../../version.ts'

const sayWhy = 'The last messages of the process say why it has ended.'
const doWithout = `${sayWhy} Serve with --workers 0 until the cause is removed.`

/** The first process has ended before it could serve. */
export function cannotServe(reason: string): NetimageError {
  const problem = `a process that serves machines has ended: ${reason}`
  return new NetimageError('internal', problem, { hint: doWithout })
}

/**
 * @param which tells several processes that end at once apart
 * @param machines how many of its machines were booting
 */
export function isStartedAgain(which: string, reason: string, machines: number): NetimageError {
  const problem = `a process that serves machines has ended, and is started again (${which}): ${reason}`
  const booting = `${machines} of its machines ${machines === 1 ? 'was' : 'were'} booting: see netimage boots.`
  const hints = [
    'Running machines wait and go on by themselves.',
    ...(machines > 0 ? [booting] : []),
  ]
  return new NetimageError('internal', problem, { hint: hints.join(' ') })
}

/** @param which as above */
export function endsAgainAndAgain(which: string, reason: string): NetimageError {
  const problem = `a process that serves machines ends again and again (${which}): ${reason}`
  const waits =
    'The next one starts in a minute. Its machines wait until then; all others are served.'
  return new NetimageError('internal', problem, { hint: `${waits} ${sayWhy}` })
}

export function allEndAgainAndAgain(reason: string): NetimageError {
  const problem = `all processes that serve machines end again and again: ${reason}`
  return new NetimageError('internal', problem, { hint: doWithout })
}

export function eventsAreLost(count: number): NetimageError {
  const problem = `${plural(count, 'event')} of machines are missing in the record of their boots`
  const hint =
    'A process that serves machines was busy, or was started again. The machines boot all the same.'
  return new NetimageError('in-use', problem, { hint })
}

/** @param now the version that processes are of which start now */
export function wasUpdated(now: string): NetimageError {
  const problem = `netimage was updated to ${now} while this server, of ${version}, runs`
  return new NetimageError('in-use', problem, { hint: 'Start the server again.' })
}
