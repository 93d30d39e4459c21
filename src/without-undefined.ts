/** Objects in which what is not set is missing, so that a spread of them overwrites nothing. */

/**
 * Name the type in the call, `withoutUndefined<BuildRequest>({ … })`: TypeScript then refuses keys
 * that it does not have.
 */
export function withoutUndefined<T extends object>(given: {
  [Key in keyof T]: T[Key] | undefined
}): Partial<T> {
  const kept: Partial<T> = {}
  for (const key in given) {
    const value = given[key]
    if (value !== undefined) kept[key] = value
  }
  return kept
}
