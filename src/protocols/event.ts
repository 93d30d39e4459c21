/**
 * The events that the servers report of each machine. The progress of a boot is derived from these.
 */

export interface MachineClue {
  /** Lower case with colons, if the protocol tells it. */
  mac?: string
  /** IPv4, if the machine has an address already. */
  address?: string
}

export type ServeEvent = MachineClue &
  (DhcpEvent | FileEvent | MountEvent | RootEvent | ServerEvent)

export interface DhcpEvent {
  kind: 'dhcp'
  step: 'discover' | 'offer' | 'request' | 'acknowledge' | 'refuse' | 'decline' | 'release'
  /** Whether this server gives only boot information, and another server gives the address. */
  proxy: boolean
  /** IANA's processor architecture type (option 93). */
  architecture?: number
  /** The user class (option 77), such as `iPXE`. */
  userClass?: string
  /** The vendor class (option 60), such as `PXEClient:Arch:00007:UNDI:003016`. */
  vendorClass?: string
  /** The file that the machine is told to fetch. */
  bootFile?: string
  /** Why the machine is refused or not answered. */
  reason?: string
}

export interface FileEvent {
  kind: 'tftp' | 'http'
  step: 'begin' | 'end' | 'missing' | 'refuse' | 'fail'
  /** The name that the machine asked for. */
  file: string
  /** Bytes sent so far. */
  bytes: number
  /** Bytes of the whole file, if known. */
  size?: number
  /** Why the transfer failed or is refused. */
  reason?: string
}

export interface MountEvent {
  kind: 'nfs'
  step: 'mount' | 'unmount' | 'refuse'
  /** The path that the machine asked for; empty if it asks for another version of the protocol. */
  path: string
  /** The request came in a datagram, whose sender may be forged. */
  transport?: 'udp'
  reason?: string
}

/** An access to the root that shows the progress of the boot. */
export interface RootEvent {
  kind: 'root'
  /** `init`: the machine reads the system's init. `registered`: its system profile is set. */
  step: 'init' | 'registered'
}

/** The process that serves the machine has ended, and is started again. */
export interface ServerEvent {
  kind: 'server'
  step: 'restart'
  /** Why the process has ended. */
  reason: string
}

/** A person can remove this reason: the allow list does not have the machine. */
export const notServed = 'the machine is not among the machines that are served'

/**
 * @param isTold false: the server only learns from the event, because such events come in a flood.
 *   Default: the event is also to be recorded and shown
 */
export type Report = (event: ServeEvent, isTold?: boolean) => void
