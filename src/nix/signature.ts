/**
 * Signatures of path infos: ed25519 over the fingerprint.
 *
 * A public key is `<key name>:<base64 of 32 bytes>`.
 * A signature is `<key name>:<base64 of 64 bytes>`.
 */
import { createPublicKey, verify, type KeyObject } from 'node:crypto'

import { NetimageError } from '../errors.ts'
import { fingerprint, type PathInfo } from './path-info.ts'

/** The public key of the public NixOS cache. */
export const nixosCacheKey = 'cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY='

export interface PublicKey {
  name: string
  key: KeyObject
}

/** Splits `<name>:<base64 of size bytes>`. @returns undefined if the text has another form */
function splitNamed(text: string, size: number): { name: string; bytes: Buffer } | undefined {
  const colon = text.indexOf(':')
  const name = text.slice(0, Math.max(colon, 0))
  const base64 = text.slice(colon + 1)
  const bytes = Buffer.from(base64, 'base64')
  // Node ignores characters that are not base64. It would read two keys with a comma as one key.
  const clean = bytes.toString('base64') === base64
  return name !== '' && clean && bytes.length === size ? { name, bytes } : undefined
}

export function parsePublicKey(text: string): PublicKey {
  const parts = splitNamed(text, 32)
  const secret = splitNamed(text, 64)
  if (secret) {
    // The message must not contain the key, because messages end up in logs.
    throw new NetimageError('bad-public-key', `${secret.name} is a secret key`, {
      details: { actual: secret.name },
      hint: 'Name its public key, which `nix key convert-secret-to-public` prints, and keep the secret key to yourself.',
    })
  }
  if (!parts) {
    throw new NetimageError('bad-public-key', `${JSON.stringify(text)} is not a public key`, {
      details: { actual: text },
      hint: 'A key is <name>:<base64 of 32 bytes>, as `nix key convert-secret-to-public` prints it.',
    })
  }
  const jwk = { kty: 'OKP', crv: 'Ed25519', x: parts.bytes.toString('base64url') }
  return { name: parts.name, key: createPublicKey({ key: jwk, format: 'jwk' }) }
}

/** The key of the first valid signature of `info`. @returns undefined if none is valid */
export function signedBy(info: PathInfo, keys: readonly PublicKey[]): PublicKey | undefined {
  const message = Buffer.from(fingerprint(info))
  for (const signature of info.signatures) {
    const parts = splitNamed(signature, 64)
    if (!parts) continue
    const key = keys.find(
      ({ name, key }) => name === parts.name && verify(null, message, key, parts.bytes),
    )
    if (key) return key
  }
  return undefined
}
