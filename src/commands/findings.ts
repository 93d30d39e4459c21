/** For `check` and `build`: the option that silences rules, and the text of findings. */
import { Option } from '@commander-js/extra-typings'

import type { CheckFinding, Level } from '../check/check-system.ts'
import { plural } from '../progress.ts'
import { collect } from './store-options.ts'

export const silenceOption = new Option(
  '--silence <rule>',
  'leave out this rule of check; repeatable',
).argParser(collect)

const levels: readonly Level[] = ['error', 'warning', 'note']

/** Groups the findings by level; each has its fix below. */
export function describeFindings(findings: readonly CheckFinding[]): string {
  if (findings.length === 0) return 'nothing was found that would keep the system from booting'
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
