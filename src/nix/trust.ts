/**
 * Decides whether a path info is trusted: the store is trusted, or a trusted key signed the info,
 * or the path is content-addressed. No other module decides this.
 */
import { parseContentAddress, recomputesPath } from './content-address.ts'
import type { PathInfo } from './path-info.ts'
import { signedBy, type PublicKey } from './signature.ts'

export interface TrustPolicy {
  keys: readonly PublicKey[]
  /** False if the person chose to accept unsigned paths. */
  checkSignatures: boolean
}

export function isTrusted(info: PathInfo, storeTrusted: boolean, policy: TrustPolicy): boolean {
  if (!policy.checkSignatures || storeTrusted) return true
  return isContentAddressed(info) || signedBy(info, policy.keys) !== undefined
}

/**
 * Whether the path follows from its content address. The pool checks the content against the
 * address after unpacking it.
 */
export function isContentAddressed(info: PathInfo): boolean {
  const address = info.ca === undefined ? undefined : parseContentAddress(info.ca)
  return address !== undefined && recomputesPath(info, address)
}
