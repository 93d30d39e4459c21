/**
 * The messages of the front, which has all sockets that listen, to a shard, which serves some of the
 * machines. Sockets go to a shard together with a message. from-shard.ts has the messages of a shard.
 */
import type * as v from 'valibot'

import type { Boot } from '../../boots/follow.ts'
import type { Requester } from '../../protocols/boot-files.ts'
import type { Machine } from '../../protocols/dhcp/machine.ts'
import type { DhcpRequestEvent } from '../../protocols/dhcp/server.ts'
import type { ServeEvent } from '../../protocols/event.ts'
import type { ServedInterface } from '../../protocols/interfaces.ts'
import type { Peer } from '../../protocols/tftp/sessions.ts'
import type { Candidate } from '../../site/life/life.ts'
import type { Processor } from '../defaults.ts'
import type { ImageInfo } from '../open-systems.ts'
import type { ServeRequest } from '../request.ts'
import type { answerSchemas } from './from-shard.ts'

/** What a shard must know to begin. */
export interface ShardStart extends Pick<ServeRequest, 'state' | 'allowed' | 'layerSize'> {
  /** Of the front. An update of netimage may have replaced the program of a shard that starts later. */
  version: string
  ephemeral: boolean
  /** From 0. */
  number: number
  /** How many shards there are. */
  count: number
  place: ServedInterface
  /** The URL of boot trees, with a slash at its end. */
  http: string
  /** The images that machines boot if nobody chose anything for them, by their ids in the site. */
  defaults: readonly { id: string; candidate: Candidate }[]
  /** The secret of file handles. */
  handleKey: Buffer
  /** Hardware addresses by IP address, as far as they are known. */
  addresses: ReadonlyMap<string, string>
  /** By hardware address, as far as they are known. */
  processors: ReadonlyMap<string, Processor>
  /** The last boot of each machine of the shard, the newest first. */
  boots: readonly Boot[]
}

/** A client and the name of its machine, which the front has found. */
export interface NamedClient {
  /** IPv4. */
  address: string
  /** The name of the machine. */
  name: string
}

/** What the front asks a shard. */
interface Asked {
  /** A call of MOUNT in a datagram. */
  call: { bytes: Buffer; client: NamedClient }
  /** A machine asks DHCP what to boot. */
  boot: { machine: Machine; asks: DhcpRequestEvent }
  /** The boot files of a machine. */
  trees: { requester: Requester; name: string }
  /** The images that are open. */
  images: object
}

type About = keyof Asked
export type ShardQuestion<K extends About = About> = { [P in K]: { about: P } & Asked[P] }[K]
export type ShardAnswer<K extends About> = v.InferInput<(typeof answerSchemas)[K]>
/** How a shard finds the answers. */
export type AnswerHandlers = {
  [K in About]: (question: Asked[K]) => ShardAnswer<K> | Promise<ShardAnswer<K>>
}

/** What the front knows of the whole server. A shard trusts the front, and does not check its answer. */
export interface FrontAnswer {
  /** The last boot of each machine. */
  machines?: readonly Boot[]
  /** Undefined also if the front does not know them now. */
  images?: readonly ImageInfo[] | undefined
}

export type ToShard =
  | { kind: 'start'; start: ShardStart }
  /** Comes with the socket, from which nothing was read. */
  | { kind: 'connection'; protocol: 'nfs' | 'http'; client: NamedClient }
  /** A read request of TFTP. The shard answers it from a port of its own. */
  | { kind: 'read-request'; bytes: Buffer; from: Peer; client: NamedClient }
  | { kind: 'question'; id: number; question: ShardQuestion }
  /** Something that the front has seen of a machine. */
  | { kind: 'event'; event: ServeEvent; isTold: boolean }
  /** The answer to a question of the shard. */
  | { kind: 'answer'; id: number; answer: FrontAnswer }
  | { kind: 'ping'; id: number }
  | { kind: 'close' }
