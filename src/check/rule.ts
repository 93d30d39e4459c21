/** A rule looks at a system or an image, and reports problems with their fixes. */
import type { BootEntry } from '../nixos/system.ts'
import type { CheckContext } from './context.ts'

/**
 * - error: the machine does not boot, or loses its root
 * - warning: the machine boots, but something fails later or on some machines
 * - note: an effect that the person should know
 */
export type Level = 'error' | 'warning' | 'note'

export interface Problem {
  /** The problem, its place and its effect: a sentence without a full stop. */
  message: string
  /** How to mend the problem: lines for the NixOS configuration, or a flag of netimage. */
  fix: string
  /** The affected file or store path, by its path on the machine. */
  path?: string | undefined
  /** Set if this problem has another level than the rule. */
  level?: Level
}

export interface Rule {
  name: string
  level: Level
  /** Reports no problem if a fact that the rule needs cannot be known. */
  find: (context: CheckContext) => Problem[] | Promise<Problem[]>
}

/**
 * Runs a rule for each entry of a system. A problem of the system itself is not reported again for
 * its specialisations.
 */
export async function findPerEntry(
  { system }: CheckContext,
  find: (entry: BootEntry) => Promise<Problem[]> | Problem[],
): Promise<Problem[]> {
  const problems = new Map<string, Problem>()
  for (const entry of system.entries) {
    for (const problem of await find(entry)) {
      const key = JSON.stringify([problem.message, problem.path])
      if (problems.has(key)) continue
      const { specialisation } = entry
      const where = specialisation === undefined ? '' : `in the specialisation ${specialisation}: `
      problems.set(key, { ...problem, message: `${where}${problem.message}` })
    }
  }
  return [...problems.values()]
}

/** Joins the lines of a fix. */
export function lines(...texts: string[]): string {
  return texts.join('\n')
}
