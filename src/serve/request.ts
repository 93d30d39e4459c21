/** What `netimage serve` is asked to serve, to whom, and where. */
import type { NetimageError } from '../errors.ts'
import type { Boot } from '../boots/follow.ts'
import type { NetworkFacts } from '../protocols/dhcp/address-settings.ts'
import type { ServeEvent } from '../protocols/event.ts'
import type { Told } from '../site/life/life.ts'
import type { RolloutTold } from '../site/rollout/rollout.ts'
import type { Progress } from '../progress.ts'
import type { Allowed } from './identity.ts'

/**
 * - `proxy`: beside a DHCP server that gives the addresses
 * - `full`: as the only DHCP server of the network
 * - `off`: another server tells the machines what to boot
 */
export type DhcpMode = 'proxy' | 'full' | 'off'

export interface ServeRequest {
  /**
   * Directories that `build` made. They are added to the site. A machine for which nobody chose an
   * image gets the one for its processor.
   */
  images: readonly string[]
  /** The state directory. */
  state: string
  dhcp: DhcpMode
  /** Default: the only interface that there is. */
  interface?: string | undefined
  address?: string | undefined
  /** For `full`: as in `10.0.0.0/24`; default: the network of the interface. */
  network?: string | undefined
  /** For `full`: as in `10.0.0.100-10.0.0.199`. */
  range?: string | undefined
  /** For `full`: IPv4 addresses by hardware address. */
  reservations?: ReadonlyMap<string, string>
  /** For `full`: routers, name servers and the domain that machines are told. */
  told?: NetworkFacts
  /** For `full`: start even if another DHCP server answers. */
  force?: boolean
  allowed: Allowed
  /** Whether the layer of a machine is reset at each boot. */
  ephemeral?: boolean
  /** The most bytes that a machine's layer may take on the disk. Default: no limit. */
  layerSize?: number | undefined
  ports: ServePorts
  /** Send all TFTP transfers from one port, for NAT and firewalls. */
  singlePort?: boolean
  /**
   * How many processes serve the machines, each some of them (`--workers`). Default: 0, one process does
   * all.
   */
  shards?: number
  /** Called for each event, with the boot that it belongs to. */
  see: (boot: Boot, event: ServeEvent, at: number) => void
  /** Called if something happens to a generation of a machine. */
  onTold: (told: Told) => void
  /** Called if something happens in a roll-out. */
  onRollout?: (told: RolloutTold) => void
  /** Shows how the images are added. */
  progress?: Progress | undefined
  /** Called for errors that are not caused by a machine. */
  onError: (error: NetimageError) => void
}

export interface ServePorts {
  tftp: number
  http: number
  nfs: number
  /** Undefined: no port mapper. Clients must then be told the port of NFS. */
  portMapper: number | undefined
}
