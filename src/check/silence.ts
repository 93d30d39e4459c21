/** Checks the names of the rules that a person silences. */
import { NetimageError } from '../errors.ts'
import { ruleNames } from './rules.ts'

/** @param source the origin of the names, for the error */
export function knownRules(names: readonly string[], source: string): readonly string[] {
  const unknown = names.find((name) => !ruleNames.includes(name))
  if (unknown === undefined) return names
  throw new NetimageError('bad-option', `${source}: there is no rule ${unknown}`, {
    details: { field: 'silence', actual: unknown },
    hint: `The rules are ${ruleNames.join(', ')}.`,
  })
}
