/** What is wrong with the file of a site. All of it is told at once. */
import { NetimageError } from '../../errors.ts'
import { plural } from '../../progress.ts'

export interface Problem {
  /** The key in the file: `group.lab.waves`. */
  field: string
  /** A sentence without a full stop. */
  message: string
  /** What the person can do. */
  hint: string
}

/** @param problems at least one */
export function badSite(file: string, problems: readonly Problem[]): NetimageError {
  const lines = problems.flatMap(({ field, message, hint }) => [
    `  ${field}: ${message}`,
    `      ${hint}`,
  ])
  const message = [`${file} has ${plural(problems.length, 'problem')}:`, ...lines].join('\n')
  return new NetimageError('bad-site', message, { details: { file, problems } })
}
