/** Says before the boot what will keep a system from booting, or hurt later. */
import { createContext } from './context.ts'
import type { CheckInput } from './input.ts'
import type { Level } from './rule.ts'
import { rules } from './rules.ts'

export type { CheckInput } from './input.ts'
export type { Level } from './rule.ts'

export interface CheckFinding {
  rule: string
  level: Level
  /** What is wrong, where, and what comes of it: a sentence without a full stop. */
  message: string
  /** What mends it: lines for the NixOS configuration, or a flag of netimage. */
  fix: string
  /** The file or store path that is affected, as the machine sees it. */
  path?: string
}

const order: Record<Level, number> = { error: 0, warning: 1, note: 2 }

/** Errors first, then warnings. A rule that is silenced does no work either. */
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
