/** The text of findings, and the option that silences rules of `check`. */
import { Option } from '@commander-js/extra-typings'

import type { CheckFinding, Level } from '../check/check-system.ts'
import { plural } from '../progress.ts'
import { collect } from './store-options.ts'

export const silenceOption = new Option(
  '--silence <rule>',
  'leave out this rule of check; repeatable',
).argParser(collect)

/** What `check` and `doctor` find. */
export interface ShownFinding {
  level: Level
  message: string
  /** The rule, or the code: scripts and the manual know the finding by it. */
  id: string
  path?: string | undefined
  /** Commands, or lines of a configuration. */
  fix?: string | undefined
  /** Sentences. */
  hint?: string | undefined
}

const levels: readonly Level[] = ['error', 'warning', 'note']

/**
 * Groups the findings by level; each has below it how to mend it.
 *
 * @param noErrors the first line if there are no errors; by default, there is none
 */
export function describeFindings(findings: readonly ShownFinding[], noErrors?: string): string {
  const hasErrors = findings.some(({ level }) => level === 'error')
  const groups = levels.flatMap((level) => {
    const found = findings.filter((finding) => finding.level === level)
    const texts = found.map((each) => linesOf(each).map((line) => `  ${line}`))
    return found.length === 0
      ? []
      : [[plural(found.length, level), ...texts.map((lines) => lines.join('\n'))]]
  })
  const first = hasErrors || noErrors === undefined ? [] : [noErrors]
  return [...first, ...groups.map((group) => group.join('\n\n'))].join('\n\n')
}

/** As `describeFindings`. */
export function describeChecked(findings: readonly CheckFinding[], noErrors?: string): string {
  return describeFindings(
    findings.map(({ rule, ...finding }) => ({ ...finding, id: rule })),
    noErrors,
  )
}

/** The first line says what was found, and the others how to mend it. */
export function linesOf({ message, id, path, fix, hint }: ShownFinding): string[] {
  return [
    `${message} [${id}]`,
    ...(path !== undefined && !message.includes(path) ? [`in ${path}`] : []),
    ...[fix, hint].flatMap((text) => text?.split('\n') ?? []).map((line) => `    ${line}`),
  ]
}
