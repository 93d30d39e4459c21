/** The machines that a line names. The others are counted. */
const mostListed = 20

/** `pi1, pi2 and 8 more` */
export function saysList(names: readonly string[]): string {
  const left = names.length - mostListed
  if (left <= 0) return names.join(', ')
  return `${names.slice(0, mostListed).join(', ')} and ${left} more`
}

/** @param names by machine; one without a name is called as the site knows it */
export function saysMachines(
  machines: readonly string[],
  names: ReadonlyMap<string, string>,
): string {
  return saysList(machines.map((machine) => names.get(machine) ?? machine))
}
