/** What the servers tell of each machine, as it happens: a boot is read off these alone. */

export interface MachineClue {
  /** Lower case with colons, where the protocol tells it. */
  mac?: string
  /** IPv4, where the machine has one yet. */
  address?: string
}

export type ServeEvent = MachineClue & (DhcpEvent | FileEvent | MountEvent | RootEvent)

export interface DhcpEvent {
  kind: 'dhcp'
  step: 'discover' | 'offer' | 'request' | 'acknowledge' | 'refuse' | 'decline' | 'release'
  /** Whether only boot information is given: another server gives the address. */
  proxy: boolean
  /** IANA's processor architecture type (option 93). */
  architecture?: number
  /** The user class (option 77), such as `iPXE`. */
  userClass?: string
  /** The vendor class (option 60), such as `PXEClient:Arch:00007:UNDI:003016`. */
  vendorClass?: string
  /** What the machine is told to fetch. */
  bootFile?: string
  /** Why it is refused or not answered. */
  reason?: string
}

export interface FileEvent {
  kind: 'tftp' | 'http'
  step: 'begin' | 'end' | 'missing' | 'refuse' | 'fail'
  /** As the machine asked for it. */
  file: string
  /** Sent so far. */
  bytes: number
  /** Of the whole file, where it is known. */
  size?: number
  /** Why it failed or is refused. */
  reason?: string
}

export interface MountEvent {
  kind: 'nfs'
  step: 'mount' | 'unmount' | 'refuse'
  /** As the machine asked for it; empty if it asks for another version of the protocol. */
  path: string
  reason?: string
}

/** What a machine does in its root that tells how far it is. */
export interface RootEvent {
  kind: 'root'
  /** `init`: it reads the system's init. `registered`: its system profile is set. */
  step: 'init' | 'registered'
}

/** The reason that the person can do away with: the machine is not among those that may boot. */
export const notServed = 'it is not among the machines that are served'

export type Report = (event: ServeEvent) => void
