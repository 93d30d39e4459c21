/**
 * The messages between the front, which has all sockets that listen, and a shard, which serves some of
 * the machines. Sockets go to a shard together with a message.
 */
import type { Boot } from '../../boots/follow.ts'
import { NetimageError, type ErrorCode, type ErrorDetails } from '../../errors.ts'
import type { BootTrees, Requester } from '../../protocols/boot-files.ts'
import type { BootAnswer, NoBoot } from '../../protocols/dhcp/boot-fields.ts'
import type { Machine } from '../../protocols/dhcp/machine.ts'
import type { DhcpRequestEvent } from '../../protocols/dhcp/server.ts'
import type { ServeEvent } from '../../protocols/event.ts'
import type { ServedInterface } from '../../protocols/interfaces.ts'
import type { Peer } from '../../protocols/tftp/sessions.ts'
import type { Candidate, Told } from '../../site/life/life.ts'
import type { Processor } from '../defaults.ts'
import type { ImageInfo } from '../open-systems.ts'
import type { ServeRequest } from '../request.ts'

/** What a shard must know to begin. */
export interface ShardStart extends Pick<ServeRequest, 'state' | 'allowed' | 'layerSize'> {
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

export type ToShard =
  | { kind: 'start'; start: ShardStart }
  /** Comes with the socket, from which nothing was read. */
  | { kind: 'connection'; protocol: 'nfs' | 'http'; client: NamedClient }
  /** A read request of TFTP. The shard answers it from a port of its own. */
  | { kind: 'read-request'; bytes: Buffer; from: Peer; client: NamedClient }
  /** A call of MOUNT in a datagram. */
  | { kind: 'call'; id: number; bytes: Buffer; client: NamedClient }
  /** A machine asks DHCP what to boot. */
  | { kind: 'boot'; id: number; machine: Machine; asks: DhcpRequestEvent }
  | { kind: 'trees'; id: number; requester: Requester; name: string }
  | { kind: 'images'; id: number }
  /** Something that the front has seen of a machine. */
  | { kind: 'learn'; event: ServeEvent }
  /** The event of the last `learn` is to be recorded and shown. */
  | { kind: 'tell' }
  | { kind: 'all-machines'; id: number; answer: readonly Boot[] }
  | { kind: 'all-images'; id: number; answer: readonly ImageInfo[] | undefined }
  | { kind: 'ping'; id: number }
  | { kind: 'close' }

export type FromShard =
  /** It serves its machines, whose last boots are these. */
  | { kind: 'ready'; boots: readonly Boot[] }
  /** It cannot serve its machines, and ends. */
  | { kind: 'failed'; error: PlainError }
  | { kind: 'called'; id: number; answer: Buffer | undefined }
  | { kind: 'booted'; id: number; answer: BootAnswer | NoBoot }
  | { kind: 'opened'; id: number; answer: BootTrees | PlainError | undefined }
  | { kind: 'own-images'; id: number; answer: readonly ImageInfo[] }
  /** An event of a machine, and the boot that it belongs to. */
  | { kind: 'seen'; boot: Boot; event: ServeEvent; at: number; mayForget: boolean }
  /** A machine has done something that takes more than a forged address. */
  | { kind: 'comes'; machine: string }
  | { kind: 'processor'; machine: string; fact: string }
  | { kind: 'told'; told: Told }
  | { kind: 'error'; error: PlainError }
  /** The data of the whole server, for `/api/`. */
  | { kind: 'machines'; id: number }
  | { kind: 'images'; id: number }
  | { kind: 'pong'; id: number }
  /** It has the connection that was given to it last. */
  | { kind: 'taken' }
  /** The last message: all is closed. */
  | { kind: 'closed' }

/** A `NetimageError` without its class. The class is lost between processes. */
export interface PlainError {
  code: ErrorCode
  message: string
  hint: string | undefined
  details: ErrorDetails
}

export function toPlain({ code, message, hint, details }: NetimageError): PlainError {
  return { code, message, hint, details }
}

export function fromPlain({ code, message, hint, details }: PlainError): NetimageError {
  return new NetimageError(code, message, { hint, details })
}
