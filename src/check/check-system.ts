/** Finds problems of a system or image before a machine boots it. */
import { createContext } from './context.ts'
import type { CheckInput } from './input.ts'
import type { Level } from './rule.ts'
import { rules } from './rules.ts'

export type { CheckInput } from './input.ts'
export type { Level } from './rule.ts'

export interface CheckFinding {
  rule: string
  level: Level
  /** The problem, its place and its effect: a sentence without a full stop. */
  message: string
  /** How to mend the problem: lines for the NixOS configuration, or a flag of netimage. */
  fix: string
  /** The affected file or store path, by its path on the machine. */
  path?: string
}

const order: Record<Level, number> = { error: 0, warning: 1, note: 2 }

/** Errors come first, then warnings. Silenced rules do not run. */
export async function checkSystem(input: CheckInput): Promise<CheckFinding[]> {
  const context = createContext(input)
  const silenced = new Set(input.silenced)
  const findings: CheckFinding[] = []
  for (const rule of rules) {
    if (silenced.has(rule.name)) continue
    for (const { message, fix, path, level = rule.level } of await rule.find(context)) {
      findings.push({ rule: rule.name, level, message, fix, ...(path !== undefined && { path }) })
    }
  }
  return findings.sort((a, b) => order[a.level] - order[b.level])
}
