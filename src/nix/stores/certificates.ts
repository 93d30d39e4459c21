/**
 * The certificate authorities to trust, as in Nix and curl: those in the file that the environment
 * names, or else those of this machine. Node alone trusts only its own list.
 */
import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createSecureContext, getCACertificates, type SecureContext } from 'node:tls'

import { fileSystemError, messageOf, NetimageError } from '../../errors.ts'

/** In this order, as in Nix. */
const variables = ['NIX_SSL_CERT_FILE', 'SSL_CERT_FILE'] as const

/** The files of Linux distributions for trusted authorities. We read the first that exists. */
const systemFiles = [
  '/etc/ssl/certs/ca-certificates.crt',
  '/etc/pki/tls/certs/ca-bundle.crt',
  '/var/lib/ca-certificates/ca-bundle.pem',
  '/etc/ssl/cert.pem',
  '/nix/var/nix/profiles/default/etc/ssl/certs/ca-bundle.crt',
]

/** Call this only once: it takes about ten milliseconds. */
export function trustedAuthorities(env: NodeJS.ProcessEnv): SecureContext {
  const variable = variables.find((name) => env[name])
  const file = variable && env[variable]
  if (!file) return createSecureContext({ ca: [...getCACertificates('default'), ...ofSystem()] })
  const hint = `Let ${variable} name a file of certificates in PEM, or unset it.`
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    throw fileSystemError(`could not read ${file}, which ${variable} names`, error, {
      hint,
      details: { file, field: variable },
    })
  }
  try {
    // createSecureContext silently ignores text that is not a certificate. This throws.
    void new X509Certificate(text)
    return createSecureContext({ ca: [text, ...getCACertificates('extra')] })
  } catch (error) {
    throw new NetimageError(
      'bad-config',
      `could not read the certificates in ${file}, which ${variable} names: ${messageOf(error)}`,
      { cause: error, hint, details: { file, field: variable } },
    )
  }
}

function ofSystem(): string[] {
  // Other systems have no such file.
  if (process.platform !== 'linux') return getCACertificates('system')
  for (const file of systemFiles) {
    try {
      return [readFileSync(file, 'utf8')]
    } catch {
      // Another distribution has another file. If none exists, Node still has its own list.
    }
  }
  return []
}

/** https://nodejs.org/api/tls.html#x509-certificate-error-codes */
const certificateErrors = new Set([
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_DECRYPT_CERT_SIGNATURE',
  'UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY',
  'CERT_SIGNATURE_FAILURE',
  'CERT_NOT_YET_VALID',
  'CERT_HAS_EXPIRED',
  'ERROR_IN_CERT_NOT_BEFORE_FIELD',
  'ERROR_IN_CERT_NOT_AFTER_FIELD',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'CERT_CHAIN_TOO_LONG',
  'CERT_REVOKED',
  'INVALID_CA',
  'PATH_LENGTH_EXCEEDED',
  'INVALID_PURPOSE',
  'CERT_UNTRUSTED',
  'CERT_REJECTED',
  'HOSTNAME_MISMATCH',
  'ERR_TLS_CERT_ALTNAME_INVALID',
])

/** Why we do not trust a server's certificate. @returns undefined if `code` has another cause */
export function certificateFailure(code: string): string | undefined {
  if (!certificateErrors.has(code)) return undefined
  return reasons[code] ?? `its certificate is not trusted (${code})`
}

const unknownAuthority = 'its certificate is not from an authority that this machine trusts'
const reasons: Record<string, string> = {
  UNABLE_TO_GET_ISSUER_CERT: unknownAuthority,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: unknownAuthority,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: unknownAuthority,
  SELF_SIGNED_CERT_IN_CHAIN: unknownAuthority,
  DEPTH_ZERO_SELF_SIGNED_CERT: unknownAuthority,
  CERT_HAS_EXPIRED: 'its certificate has expired',
  CERT_NOT_YET_VALID: 'its certificate is not valid yet; is the clock of this machine right?',
  ERR_TLS_CERT_ALTNAME_INVALID: 'its certificate is for another name',
}
