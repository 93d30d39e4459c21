/**
 * The stable code of every failure that a person can see.
 *
 * A code never changes its meaning: scripts match on it (`--json` prints it), and
 * docs/errors.md explains each one.
 */

import { constants } from 'node:os'

/** The exit status of the process for each kind of failure. */
export const exitStatus = {
  failed: 1,
  usage: 2,
  notFound: 3,
  untrusted: 4,
  unavailable: 5,
  interrupted: 130,
} as const

const statusByCode = {
  // the command line or the configuration is wrong
  'bad-usage': exitStatus.usage,
  'bad-option': exitStatus.usage,
  'bad-config': exitStatus.usage,
  'bad-store-path': exitStatus.usage,
  'bad-store-url': exitStatus.usage,
  'bad-public-key': exitStatus.usage,
  'output-exists': exitStatus.usage,
  'bad-generation': exitStatus.usage,
  'bad-site': exitStatus.usage,
  'bad-rollout': exitStatus.usage,
  // something is missing
  'path-not-found': exitStatus.notFound,
  'not-a-system': exitStatus.notFound,
  'not-an-image': exitStatus.notFound,
  'program-missing': exitStatus.notFound,
  'unknown-machine': exitStatus.notFound,
  'unknown-group': exitStatus.notFound,
  // something is not what it claims to be
  'bad-nar': exitStatus.untrusted,
  'bad-narinfo': exitStatus.untrusted,
  'bad-compression': exitStatus.untrusted,
  'bad-store': exitStatus.untrusted,
  'bad-system': exitStatus.untrusted,
  'hash-mismatch': exitStatus.untrusted,
  'size-mismatch': exitStatus.untrusted,
  'untrusted-path': exitStatus.untrusted,
  'image-damaged': exitStatus.untrusted,
  'bad-state': exitStatus.untrusted,
  'bad-message': exitStatus.untrusted,
  // something could not be reached, read or written
  'store-unavailable': exitStatus.unavailable,
  'not-allowed': exitStatus.unavailable,
  'cannot-listen': exitStatus.unavailable,
  'other-dhcp-server': exitStatus.unavailable,
  'in-use': exitStatus.unavailable,
  'stale-plan': exitStatus.unavailable,
  'remote-failed': exitStatus.unavailable,
  'file-system': exitStatus.failed,
  'disk-full': exitStatus.failed,
  'too-many-files': exitStatus.failed,
  'too-many-machines': exitStatus.failed,
  'command-failed': exitStatus.failed,
  'no-namespace': exitStatus.failed,
  'nix-failed': exitStatus.failed,
  interrupted: exitStatus.interrupted,
  // a defect of netimage
  internal: exitStatus.failed,
} as const satisfies Record<string, number>

export type ErrorCode = keyof typeof statusByCode

export function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === 'string' && Object.hasOwn(statusByCode, code)
}

/**
 * The facts of an error as data, so that no script has to parse the message. `--json` prints them.
 * Each part is set only if the error is about such a thing.
 */
export interface ErrorDetails {
  /** A store path. */
  path?: string
  /** The store path that refers to `path`. */
  referrer?: string
  /** A file or directory on this machine. */
  file?: string
  /** The URL of a store, without credentials. */
  store?: string
  /** The URLs of all stores that were asked. */
  stores?: readonly string[]
  /** The URL of a request to a server, without credentials and query. */
  url?: string
  /** The HTTP status of the server's answer. */
  status?: number
  /**
   * The part of an input that is wrong: an option, `NarSize` of a narinfo. Or what cannot listen:
   * `TFTP (UDP)`, a network interface.
   */
  field?: string
  /** What was expected: a hash, a size in bytes, the names of keys, a program. */
  expected?: string | number
  /** The value that was found instead. Or the value that cannot be used: `127.0.0.1:69`. */
  actual?: string | number
  /** All that is wrong with the file of a site: the key, what is wrong, and what to do. */
  problems?: readonly { field: string; message: string; hint: string }[]
}

export interface NetimageErrorOptions {
  /** What the person can do next, as a sentence. */
  hint?: string | undefined
  cause?: unknown
  details?: ErrorDetails
}

/** An error for a person. The message says what was being done, with what, and why it failed. */
export class NetimageError extends Error {
  override readonly name = 'NetimageError'
  readonly code: ErrorCode
  readonly hint: string | undefined
  readonly details: ErrorDetails

  constructor(code: ErrorCode, message: string, options: NetimageErrorOptions = {}) {
    const { hint, cause, details = {} } = options
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
    this.hint = hint
    this.details = details
  }

  /** The status that the process exits with. */
  get exitStatus(): number {
    return statusByCode[this.code]
  }
}

/** The same failure with another message, more details, and perhaps another hint. */
export function explained(
  failure: NetimageError,
  message: string,
  details: ErrorDetails,
  hint = failure.hint,
): NetimageError {
  return new NetimageError(failure.code, message, {
    ...{ cause: failure, hint },
    details: { ...failure.details, ...details },
  })
}

/** The `errno` name of a system error (`ENOENT`), or undefined for any other value. */
export function errnoOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined
  // Node has no name for it: https://docs.libuv.org/en/v1.x/errors.html
  if ('errno' in error && error.errno === -constants.errno.EDQUOT) return 'EDQUOT'
  return typeof error.code === 'string' ? error.code : undefined
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** The error itself. An error of another kind is a defect of netimage. */
export function asNetimageError(error: unknown): NetimageError {
  if (error instanceof NetimageError) return error
  return new NetimageError('internal', messageOf(error), { cause: error })
}

export const quotaHint = 'Or raise the quota: quota -v shows it.'

const diskFull = new Set(['ENOSPC', 'EDQUOT'])

export function isDiskFull(error: unknown): boolean {
  return diskFull.has(errnoOf(error) ?? '')
}

function pathOf(error: unknown): ErrorDetails {
  if (!(error instanceof Error) || !('path' in error)) return {}
  return typeof error.path === 'string' ? { file: error.path } : {}
}

/**
 * Turns a system error into a `NetimageError`. Returns every other error unchanged.
 *
 * @param doing what was being done and with what: `could not write the image /x`
 * @param options the hint of a full disk is by default about building images
 */
export function fileSystemError(
  doing: string,
  error: unknown,
  options: Pick<NetimageErrorOptions, 'hint' | 'details'> = {},
): Error {
  if (error instanceof NetimageError) return error
  const errno = errnoOf(error)
  if (errno === undefined) return error instanceof Error ? error : new Error(String(error))
  const details = { ...pathOf(error), ...options.details }
  if (isDiskFull(error)) {
    const isQuota = errno === 'EDQUOT'
    const why = isQuota ? 'the quota of its owner is used up' : 'the disk is full'
    const hint =
      options.hint ??
      'Make room, or name another directory with -o or --pool. Finished work is kept, and the next run continues from there.'
    return new NetimageError('disk-full', `${doing}: ${why} (${errno})`, {
      ...{ cause: error, details, hint: isQuota ? `${hint} ${quotaHint}` : hint },
    })
  }
  return new NetimageError('file-system', `${doing}: ${messageOf(error)}`, {
    ...{ cause: error, hint: options.hint, details },
  })
}
