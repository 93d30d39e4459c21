/** The host key of a machine in its root, where OpenSSH on NixOS has it by default. */
import { NetimageError } from '../../errors.ts'
import type { FileSystem } from '../../protocols/nfs/file-system.ts'
import type { SiteFile } from '../../roots/bind-site-files.ts'
import { findNode, readSmallFile } from '../../roots/find-node.ts'
import { publicKeyIn, publicLine, type HostKey } from './open-ssh.ts'

const directory = ['etc', 'ssh'] as const
const privateName = 'ssh_host_ed25519_key'
const privatePath = [...directory, privateName] as const
/** OpenSSH writes about 400 bytes. */
const mostBytes = 64 * 1024

/** The private key comes first. @param name of the machine, as people know it */
export function filesOfHostKey({ privateKey, publicKey }: HostKey, name: string): SiteFile[] {
  return [
    { path: [...privatePath], mode: 0o600, bytes: Buffer.from(privateKey) },
    {
      path: [...directory, `${privateName}.pub`],
      ...{ mode: 0o644, bytes: Buffer.from(`${hostKeyLine(publicKey, name)}\n`) },
    },
  ]
}

/** @param name of the machine, as people know it */
export function hostKeyLine(publicKey: Buffer, name: string): string {
  return publicLine(publicKey, commentFor(name))
}

export function commentFor(name: string): string {
  return `root@${name}`
}

/**
 * @returns the public key; undefined if there is no host key, or only an empty file
 * @throws `NetimageError` `bad-state` if there is something else; `FileSystemError`
 */
export function hostKeyIn(fileSystem: FileSystem, name: string): Buffer | undefined {
  const file = findNode(fileSystem, privatePath)
  if (file === undefined) return undefined
  const { kind, size } = fileSystem.attributes(file)
  if (kind === 'file' && size === 0) return undefined
  const publicKey = publicKeyIn(readSmallFile(fileSystem, privatePath, mostBytes) ?? '')
  if (publicKey) return publicKey
  const path = `/${privatePath.join('/')}`
  throw new NetimageError('bad-state', `${path} of ${name} is not an ed25519 key of OpenSSH`, {
    details: { file: path },
    hint: `Look at it on the machine: ls -l ${path}; ssh-keygen -l -f ${path}. If it is no key, remove it there, and start the machine again.`,
  })
}
