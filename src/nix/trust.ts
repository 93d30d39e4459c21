/**
 * What makes a path info count: the store is trusted, a trusted key signed it, or the path is
 * addressed by its content. The one place where this is decided.
 */
import { parseContentAddress, recomputesPath } from './content-address.ts'
import type { PathInfo } from './path-info.ts'
import { signedBy, type PublicKey } from './signature.ts'

export interface TrustPolicy {
  keys: readonly PublicKey[]
  /** False where the person chose to do without signatures. */
  checkSignatures: boolean
}

export function isTrusted(info: PathInfo, storeTrusted: boolean, policy: TrustPolicy): boolean {
  if (!policy.checkSignatures || storeTrusted) return true
  return isContentAddressed(info) || signedBy(info, policy.keys) !== undefined
}

/**
 * Whether the path follows from its content address. The address itself is held against the
 * content while that is unpacked.
 */
export function isContentAddressed(info: PathInfo): boolean {
  const address = info.ca === undefined ? undefined : parseContentAddress(info.ca)
  return address !== undefined && recomputesPath(info, address)
}
