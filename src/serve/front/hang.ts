/**
 * Finds out whether a process hangs: it gets pings, and must answer. On a busy machine an answer may take
 * long. So a process hangs only if it has used much processor time since an unanswered ping, or if it has
 * not answered for very long.
 */
import { readFileSync } from 'node:fs'

/** How often a process is looked at. Milliseconds. */
const lookMs = 1000

export interface HangSettings {
  /** Sends a ping. */
  ping: (id: number) => void
  /** The processor time that the process has used; undefined: not known. Milliseconds. */
  processorMs: () => number | undefined
  /** A process that uses more than this has had the time to answer. Milliseconds of processor time. */
  mostProcessorMs: number
  /**
   * The number of unanswered looks after which a process hangs; there is one each second. We count looks,
   * because the clock goes on while the computer sleeps.
   */
  mostLooks: number
  /** Called once, with the reason. */
  onHang: (reason: string) => void
}

export interface HangWatch {
  /** The process has answered this ping. */
  answered(id: number): void
  [Symbol.dispose](): void
}

export function watchForHang(settings: HangSettings): HangWatch {
  const { ping, processorMs, mostProcessorMs, mostLooks, onHang } = settings
  let id = 0
  let unanswered: { looks: number; from: number | undefined } | undefined
  const timer = setInterval(() => {
    if (!unanswered) {
      unanswered = { looks: 0, from: processorMs() }
      ping(++id)
      return
    }
    unanswered.looks++
    // The answer may wait in our queue. Read it first.
    if (reasonOf(unanswered)) setImmediate(end)
  }, lookMs)

  function reasonOf({ looks, from }: { looks: number; from: number | undefined }) {
    const now = processorMs()
    if (now !== undefined && from !== undefined && now - from >= mostProcessorMs) {
      return `it has used ${mostProcessorMs / 1000} s of processor time without an answer`
    }
    return looks >= mostLooks ? `it has not answered for ${mostLooks} s` : undefined
  }

  function end(): void {
    const reason = unanswered && reasonOf(unanswered)
    if (reason === undefined) return
    unanswered = undefined
    clearInterval(timer)
    onHang(reason)
  }

  return {
    answered(answered) {
      if (answered === id) unanswered = undefined
    },
    [Symbol.dispose]() {
      unanswered = undefined
      clearInterval(timer)
    },
  }
}

/** Linux gives times in hundredths of a second, on all processors that Node runs on. */
const tickMs = 10

/** Reads `utime` and `stime` of proc_pid_stat(5). @returns undefined on other systems than Linux */
export function processorTimeOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // The name of the program, in brackets, may contain spaces.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return (Number(fields[11]) + Number(fields[12])) * tickMs
  } catch {
    return undefined
  }
}
