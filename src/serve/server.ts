/** A server of one process or of several: what it needs, and what it is. */
import type { Boot } from '../boots/follow.ts'
import type { NetimageError } from '../errors.ts'
import type { ServedInterface } from '../protocols/interfaces.ts'
import type { ProcedureCounts } from '../protocols/nfs/procedure-counts.ts'
import type { DefaultImage } from './defaults.ts'
import type { Learnt } from './learnt.ts'
import type { ServePorts, ServeRequest } from './request.ts'

export interface ServerSettings {
  request: ServeRequest
  place: ServedInterface
  /** The URL of boot trees, with a slash at its end. */
  http: string
  images: readonly DefaultImage[]
  learnt: Learnt
  /** The secret of file handles. */
  handleKey: Buffer
  signal: AbortSignal | undefined
}

export interface Server {
  ports: ServePorts
  /** The last boot of each machine. */
  boots: () => Boot[]
  /** The operations of NFS that have succeeded since the server started. */
  operations: () => ProcedureCounts
  /** Resolves if machines cannot be served any more. */
  lost: Promise<NetimageError>
}
