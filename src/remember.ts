/** Machines that are remembered at once: what asks with ever new addresses is no machine. */
const maxMachines = 4096

/** Sets what is known of a machine; the oldest is forgotten if there are too many. */
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
