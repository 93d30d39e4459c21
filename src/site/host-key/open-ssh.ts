/** Keys of OpenSSH. The format of private keys is that of its file PROTOCOL.key, public ones are of RFC 8709. */
import { createHash, generateKeyPairSync, randomBytes } from 'node:crypto'

const keyType = 'ssh-ed25519'
/** The same number for the public and the private half. Bytes. */
const halfBytes = 32
const magic = Buffer.from('openssh-key-v1\0')
const first = '-----BEGIN OPENSSH PRIVATE KEY-----\n'
const last = '-----END OPENSSH PRIVATE KEY-----\n'
const lineLength = 70
/** The private part of a key without a passphrase is padded to blocks of this size. Bytes. */
const blockBytes = 8

export interface HostKey {
  /** The text of the private key, as OpenSSH reads it. It has no passphrase. */
  privateKey: string
  /** As `publicKeyIn`. */
  publicKey: Buffer
}

/** Makes an ed25519 key. */
export function makeHostKey(comment: string): HostKey {
  const made = generateKeyPairSync('ed25519')
  // Both keys are at the ends of their structures [RFC 8410, sections 4 and 7].
  const half = made.publicKey.export({ format: 'der', type: 'spki' }).subarray(-halfBytes)
  const seed = made.privateKey.export({ format: 'der', type: 'pkcs8' }).subarray(-halfBytes)
  const check = randomBytes(4)
  const secret = Buffer.concat([
    ...[check, check, withLength(keyType), withLength(half)],
    ...[withLength(Buffer.concat([seed, half])), withLength(comment)],
  ])
  const missing = (blockBytes - (secret.length % blockBytes)) % blockBytes
  const padding = Buffer.from(Array.from({ length: missing }, (_, place) => place + 1))
  const publicKey = Buffer.concat([withLength(keyType), withLength(half)])
  const bytes = Buffer.concat([
    ...[magic, withLength('none'), withLength('none'), withLength('')],
    ...[uint32(1), withLength(publicKey), withLength(Buffer.concat([secret, padding]))],
  ])
  const text = bytes.toString('base64').replaceAll(new RegExp(`.{1,${lineLength}}`, 'g'), '$&\n')
  return { privateKey: `${first}${text}${last}`, publicKey }
}

/**
 * @param text of a private key, also with a passphrase; it may be anything
 * @returns the bytes of its public key, undefined if it is not one ed25519 key
 */
export function publicKeyIn(text: string): Buffer | undefined {
  const [from, to] = [text.indexOf(first), text.indexOf(last)]
  if (from < 0 || to < from) return undefined
  const bytes = Buffer.from(text.slice(from + first.length, to), 'base64')
  if (!bytes.subarray(0, magic.length).equals(magic)) return undefined
  let rest: Buffer = bytes.subarray(magic.length)
  // The cipher, how its key is made of a passphrase, and the options of this.
  for (let part = 0; part < 3; part++) {
    const read = readString(rest)
    if (!read) return undefined
    ;({ rest } = read)
  }
  const isOne = rest.length >= 4 && rest.readUInt32BE() === 1
  const found = isOne ? readString(rest.subarray(4))?.value : undefined
  const type = found && readString(found)
  const half = type && readString(type.rest)
  const isKey = type?.value.equals(Buffer.from(keyType)) && half?.value.length === halfBytes
  return found && isKey && half.rest.length === 0 ? Buffer.from(found) : undefined
}

/** As in `authorized_keys` and in files with the ending `.pub`, without the end of the line. */
export function publicLine(publicKey: Buffer, comment: string): string {
  return `${keyType} ${publicKey.toString('base64')} ${comment}`
}

/** As `ssh-keygen -l` shows it: `SHA256:…`. */
export function fingerprintOf(publicKey: Buffer): string {
  const digest = createHash('sha256').update(publicKey).digest('base64')
  return `SHA256:${digest.replace(/=+$/, '')}`
}

/** A string of SSH [RFC 4251, section 5]. */
function withLength(content: string | Buffer): Buffer {
  const bytes = Buffer.from(content)
  return Buffer.concat([uint32(bytes.length), bytes])
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

function readString(bytes: Buffer): { value: Buffer; rest: Buffer } | undefined {
  if (bytes.length < 4) return undefined
  const end = 4 + bytes.readUInt32BE()
  if (end > bytes.length) return undefined
  return { value: bytes.subarray(4, end), rest: bytes.subarray(end) }
}
