/**
 * Recognizes secrets in files: what nobody but the machine's owner should read, in the forms that
 * are known well enough to be sure.
 */

export type SecretKind =
  'private key' | 'age key' | 'WireGuard private key' | 'password' | 'netrc password'

/** Larger than any file of these kinds; what is larger is not looked at. */
export const maxSecretFileBytes = 64 * 1024
/** The shortest line of these kinds is longer. */
export const minSecretFileBytes = 24

/** What begins a line, so that a program that only knows of keys is none. */
const privateKey =
  /^-----BEGIN (?:RSA |EC |DSA |OPENSSH )?PRIVATE KEY-----\r?\n[A-Za-z0-9+/=]{16,76}\r?\n(?:[A-Za-z0-9+/=]{1,76}\r?\n)*-----END /m
const ageKey = /^AGE-SECRET-KEY-(?:PQ-)?1[02-9AC-HJ-NP-Z]{50,}\s*$/m
const wireGuardKey = /^[ \t]*PrivateKey[ \t]*=[ \t]*[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=[ \t]*$/m
/** crypt(5), after the colon of shadow(5) and htpasswd, or as a string of JSON. */
const passwordHash = /[:"]\$(?:y|gy|7|2[abxy]|5|6|argon2id?)\$[./A-Za-z0-9,=$]{20,}/
/** htpasswd's other kinds, which are common words elsewhere: nginx takes passwords as they are. */
const htpasswdEntry = /^[^\s:#]+:(?:\{(?:PLAIN|SSHA|SHA)\}|\$apr1\$|\$1\$)\S/m
/** NixOS's users-groups.json has it in plain text where the person wrote it so. */
const plainPassword = /"(?:password|initialPassword)":"[^"]/
/** systemd-sysusers(8), as NixOS has it in that unit. */
const sysusersPassword = /^SetCredential=passwd\.(?:hashed|plaintext)-password\.\S/m
const netrcPassword = /^\s*(?:machine\s+\S+|default)\s[^#]{0,1000}?\bpassword\s+\S/m

/** @param name the file's name, without directories; in the store, without the hash */
export function findSecret(name: string, content: Buffer): SecretKind | undefined {
  if (content.length < minSecretFileBytes || content.length > maxSecretFileBytes) return undefined
  if (content.includes(0)) return undefined
  // Most files have no such word, which is found out faster than that they have no key.
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

/** Hashes of passwords are common in tests and manuals: elsewhere they mean nothing. */
function isPasswordFile(name: string): boolean {
  return isUserList(name) || /shadow|passw(?:or)?d/i.test(name)
}

/** Of the script that makes users, and of the program that may take its place. */
function isUserList(name: string): boolean {
  return /^(?:users-groups|userborn)\.json$/.test(name)
}

/** The private half of a machine's SSH identity, by its usual name. */
export function isHostKeyName(name: string): boolean {
  return /^ssh_host_\w+_key$/.test(name)
}
