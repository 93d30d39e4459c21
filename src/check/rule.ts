/** What a rule is: it looks at a system or an image, and names what is wrong and how to mend it. */
import type { BootEntry } from '../nixos/system.ts'
import type { CheckContext } from './context.ts'

/**
 * - error: the machine does not boot, or loses its root
 * - warning: it boots, and something hurts later or on some machines
 * - note: worth knowing
 */
export type Level = 'error' | 'warning' | 'note'

export interface Problem {
  /** What is wrong, where, and what comes of it: a sentence without a full stop. */
  message: string
  /** What mends it: lines for the NixOS configuration, or a flag of netimage. */
  fix: string
  /** The file or store path that is affected, as the machine sees it. */
  path?: string | undefined
  /** If this one is less serious than the rule. */
  level?: Level
}

export interface Rule {
  name: string
  level: Level
  /** A rule that cannot know says nothing. */
  find: (context: CheckContext) => Problem[] | Promise<Problem[]>
}

/**
 * What a rule finds in the entries of a system. A problem of the system itself is not told again for
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

/** Lines of a NixOS configuration or of a file, as a fix names them. */
export function lines(...texts: string[]): string {
  return texts.join('\n')
}
