/** A limit, because a hostile sender can use a new address in each packet. */
const maxMachines = 4096

/**
 * Remembers a value for a machine. If there are too many, forgets the oldest machine that may be
 * forgotten.
 */
export function remember<T>(
  known: Map<string, T>,
  machine: string,
  value: T,
  most = maxMachines,
  mayForget: (machine: string) => boolean = () => true,
): void {
  known.delete(machine)
  known.set(machine, value)
  if (known.size <= most) return
  for (const oldest of known.keys()) {
    if (!mayForget(oldest)) continue
    known.delete(oldest)
    return
  }
}
