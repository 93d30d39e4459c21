/** The rules that a person leaves out. */
import { NetimageError } from '../errors.ts'

/** @param source where the names are from, for the error */
export async function knownRules(
  names: readonly string[],
  source: string,
): Promise<readonly string[]> {
  if (names.length === 0) return names
  // What the rules load would slow down every command that knows of them.
  const { ruleNames } = await import('./rules.ts')
  const unknown = names.find((name) => !ruleNames.includes(name))
  if (unknown === undefined) return names
  throw new NetimageError('bad-option', `${source}: there is no rule ${unknown}`, {
    hint: `The rules are ${ruleNames.join(', ')}.`,
  })
}
