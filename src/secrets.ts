/**
 * Recognizes secrets in files that only the machine's owner should read. It knows only forms that
 * are clear enough to be sure.
 */

import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'

import { ownModule } from './own-module.ts'

const secretKinds = [
  'private key',
  'age key',
  'WireGuard private key',
  'password',
  'netrc password',
] as const

export type SecretKind = (typeof secretKinds)[number]

export function isSecretKind(text: unknown): text is SecretKind {
  return secretKinds.some((kind) => kind === text)
}

/** A secret in a tree. */
export interface TreeSecret {
  /** The path of the file below the tree: `etc/key`. */
  path: string
  kind: SecretKind
}

let knownRules: string | undefined

/**
 * A digest of this module. A search finds the same secrets as long as the digest is the same, so a
 * result that was kept is of use only with its digest.
 */
export function secretRules(): string {
  return (knownRules ??= createHash('sha256')
    .update(readFileSync(ownModule('secrets')))
    .digest('hex'))
}

/** Larger than every file with a secret. Larger files are not searched. */
export const maxSecretFileBytes = 64 * 1024
/** Shorter than the shortest line with a secret. */
const minSecretFileBytes = 24

export function isSearchedSize(bytes: number): boolean {
  return bytes >= minSecretFileBytes && bytes <= maxSecretFileBytes
}

/** Folders with keys of tests and manuals, which are published with their programs. */
const publishedFolders = new Set(
  'test tests testing testdata test-data test_data t fixtures example examples sample samples demo demos doc docs man info'.split(
    ' ',
  ),
)

export function isPublishedFolder(name: string): boolean {
  return publishedFolders.has(name.toLowerCase())
}

/** A whole key from the beginning of a line: a program may hold the words without a key. */
const privateKey =
  /^-----BEGIN (?:RSA |EC |DSA |OPENSSH )?PRIVATE KEY-----\r?\n[A-Za-z0-9+/=]{16,76}\r?\n(?:[A-Za-z0-9+/=]{1,76}\r?\n)*-----END /m
const ageKey = /^AGE-SECRET-KEY-(?:PQ-)?1[02-9AC-HJ-NP-Z]{50,}\s*$/m
const wireGuardKey = /^[ \t]*PrivateKey[ \t]*=[ \t]*[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=[ \t]*$/m
/** crypt(5), after the colon of shadow(5) and htpasswd, or as a string of JSON. */
const passwordHash = /[:"]\$(?:y|gy|7|2[abxy]|5|6|argon2id?)\$[./A-Za-z0-9,=$]{20,}/
/** htpasswd's other kinds. They are common words in other files. nginx accepts plain passwords. */
const htpasswdEntry = /^[^\s:#]+:(?:\{(?:PLAIN|SSHA|SHA)\}|\$apr1\$|\$1\$)\S/m
/** A password that the person wrote in plain text, in NixOS's users-groups.json. */
const plainPassword = /"(?:password|initialPassword)":"[^"]/
/** systemd-sysusers(8): NixOS puts the password into the unit. */
const sysusersPassword = /^SetCredential=passwd\.(?:hashed|plaintext)-password\.\S/m
const netrcPassword = /^[ \t]*(?:machine\s+\S+|default)\s[^#]{0,1000}?\bpassword\s+\S/m

/** @param name the file's name without directories and, for a store path, without the hash */
export function findSecret(name: string, content: Buffer): SecretKind | undefined {
  if (!isSearchedSize(content.length)) return undefined
  if (content.includes(0)) return undefined
  // A search for a word is faster than a regular expression, and most files do not have the word.
  const has = (word: string, pattern: RegExp) =>
    content.includes(word) && pattern.test(content.toString('latin1'))
  if (has('PRIVATE KEY-----', privateKey)) return 'private key'
  if (has('AGE-SECRET-KEY-', ageKey)) return 'age key'
  if (has('PrivateKey', wireGuardKey)) return 'WireGuard private key'
  if (isPasswordFile(name) && has('$', passwordHash)) return 'password'
  if (isUserList(name) && has('assword', plainPassword)) return 'password'
  if (/htpasswd/i.test(name) && has(':', htpasswdEntry)) return 'password'
  if (has('SetCredential=passwd.', sysusersPassword)) return 'password'
  if (/^[._]?netrc$/.test(name) && has('password', netrcPassword)) return 'netrc password'
  return undefined
}

/** In other files, hashes of passwords are often examples of tests and manuals. */
function isPasswordFile(name: string): boolean {
  return isUserList(name) || /shadow|passw(?:or)?d/i.test(name)
}

/** The input of NixOS's script that makes users, or of userborn. */
function isUserList(name: string): boolean {
  return /^(?:users-groups|userborn)\.json$/.test(name)
}

/** Whether the name is the usual one of a machine's private SSH host key. */
export function isHostKeyName(name: string): boolean {
  return /^ssh_host_\w+_key$/.test(name)
}
