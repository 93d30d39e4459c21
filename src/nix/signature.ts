/**
 * Signatures of path infos: ed25519 over the fingerprint.
 *
 * A trusted key is `<key name>:<base64 of 32 bytes>`, a signature `<key name>:<base64 of 64>`.
 */
import { createPublicKey, verify, type KeyObject } from 'node:crypto'

import { NetimageError } from '../errors.ts'
import { fingerprint, type PathInfo } from './path-info.ts'

/** The key that the public NixOS cache signs with. */
export const nixosCacheKey = 'cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY='

export interface PublicKey {
  name: string
  key: KeyObject
}

/** Splits `<name>:<base64 of size bytes>`; undefined where it is not that. */
function splitNamed(text: string, size: number): { name: string; bytes: Buffer } | undefined {
  const colon = text.indexOf(':')
  const name = text.slice(0, Math.max(colon, 0))
  const base64 = text.slice(colon + 1)
  const bytes = Buffer.from(base64, 'base64')
  // Node passes over what is no base64: of two keys with a comma between them it would read one.
  const clean = bytes.toString('base64') === base64
  return name !== '' && clean && bytes.length === size ? { name, bytes } : undefined
}

export function parsePublicKey(text: string): PublicKey {
  const parts = splitNamed(text, 32)
  const secret = splitNamed(text, 64)
  if (secret) {
    // Not repeated here: messages end up in logs.
    throw new NetimageError('bad-public-key', `${secret.name} is a secret key`, {
      hint: 'Name its public key, as `nix key convert-secret-to-public` prints it, and keep the secret one to yourself.',
    })
  }
  if (!parts) {
    throw new NetimageError('bad-public-key', `${JSON.stringify(text)} is not a public key`, {
      hint: 'A key is <name>:<base64 of 32 bytes>, as `nix key convert-secret-to-public` prints it.',
    })
  }
  const jwk = { kty: 'OKP', crv: 'Ed25519', x: parts.bytes.toString('base64url') }
  return { name: parts.name, key: createPublicKey({ key: jwk, format: 'jwk' }) }
}

/** The first of `keys` with which a signature of `info` is valid. */
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
