/** The machines that a sentence names. The others are counted. */
const mostListed = 10

/** `pi1, pi2 and 8 more` */
export function saysList(names: readonly string[]): string {
  const left = names.length - mostListed
  if (left <= 0) return names.join(', ')
  return `${names.slice(0, mostListed).join(', ')} and ${left} more`
}
