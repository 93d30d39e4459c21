/** The name of a machine is its hardware address, or its IP address if the other is not known. */

/** The hardware address, to be spread into an event or a machine. */
export function macOf(name: string): { mac?: string } {
  return name.includes(':') ? { mac: name } : {}
}
