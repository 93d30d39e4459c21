/** A limit, because a hostile sender can use a new address in each packet. */
const maxMachines = 4096

/** Remembers a value for a machine. Forgets the oldest machine if there are too many. */
export function remember<T>(
  known: Map<string, T>,
  machine: string,
  value: T,
  most = maxMachines,
): void {
  known.delete(machine)
  known.set(machine, value)
  const [oldest] = known.keys()
  if (known.size > most && oldest !== undefined) known.delete(oldest)
}
