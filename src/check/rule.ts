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
  /** Where this one is less grave than the rule. */
  level?: Level
}

export interface Rule {
  name: string
  level: Level
  /** A rule that cannot know says nothing. */
  find: (context: CheckContext) => Problem[] | Promise<Problem[]>
}

/** How a sentence calls an entry of a system. */
export function entryName({ specialisation }: BootEntry): string {
  return specialisation === undefined ? 'the system' : `the specialisation ${specialisation}`
}
