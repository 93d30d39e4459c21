/** What the commands that check share: which rules are silenced, and how findings are shown. */
import { Option } from '@commander-js/extra-typings'

import type { CheckFinding, Level } from '../check/check-system.ts'
import { plural } from '../progress.ts'
import { collect } from './store-options.ts'

export const silenceOption = new Option(
  '--silence <rule>',
  'leave out a rule of check; repeatable',
).argParser(collect)

const levels: readonly Level[] = ['error', 'warning', 'note']

/** Grouped by their levels, each with what mends it. */
export function describeFindings(findings: readonly CheckFinding[]): string {
  if (findings.length === 0) return 'nothing was found that would keep it from booting'
  const groups = levels.flatMap((level) => {
    const found = findings.filter((finding) => finding.level === level)
    return found.length === 0 ? [] : [[plural(found.length, level), ...found.map(describe)]]
  })
  return groups.map((group) => group.join('\n\n')).join('\n\n')
}

function describe({ rule, message, path, fix }: CheckFinding): string {
  const lines = [`  ${message} [${rule}]`]
  if (path !== undefined && !message.includes(path)) lines.push(`  in ${path}`)
  lines.push(...fix.split('\n').map((line) => `      ${line}`))
  return lines.join('\n')
}
