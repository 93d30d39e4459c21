/** Machines that are remembered at once: what asks with ever new addresses is no machine. */
const maxMachines = 4096

/** Sets what is known of a machine; the oldest is forgotten when there are too many. */
export function remember<T>(known: Map<string, T>, machine: string, value: T): void {
  known.delete(machine)
  known.set(machine, value)
  const [oldest] = known.keys()
  if (known.size > maxMachines && oldest !== undefined) known.delete(oldest)
}
