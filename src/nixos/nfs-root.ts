/**
 * `nfsroot=` as the kernel reads it: `[<server>:]<path>[,<options>]`.
 *
 * https://docs.kernel.org/admin-guide/nfs/nfsroot.html
 */
import { posix } from 'node:path'

import { NetimageError } from '../errors.ts'
import { fileSystemAt, isNfs, type FileSystem } from './fstab.ts'
import { findRootFileSystem } from './root-file-system.ts'

export interface NfsRoot {
  /** The value as it is on the kernel line. */
  text: string
  /** Undefined means the server that gave the machine its address. */
  server: string | undefined
  path: string
  /** `3`, `4`, `4.2`…; undefined if the options name none. */
  version: string | undefined
  /** The other options. */
  options: string[]
}

const versionOption = /^(?:v|vers=|nfsvers=)([234](?:\.[0-2])?)$/

export function parseNfsRoot(text: string): NfsRoot {
  const [, server, path, optionText = ''] =
    /^(?:([^/,:[\]]+|\[[^\]]+\]):)?(\/(?!\/)[^,]*)(?:,(.*))?$/.exec(text) ?? []
  if (path === undefined || /[\s\p{Cc}]/u.test(text)) {
    throw new NetimageError('bad-option', `nfsRoot: ${JSON.stringify(text)} is no NFS root`, {
      details: { field: 'nfsRoot', actual: text },
      hint: 'Write the NFS root as on the kernel line: 192.168.0.108:/srv/nixos,v3',
    })
  }
  let version: string | undefined
  const options: string[] = []
  for (const option of optionText.split(',').filter(Boolean)) {
    const [, named] = versionOption.exec(option) ?? []
    if (named === undefined) options.push(option)
    else version = named
  }
  return { text, server: server?.replace(/^\[|\]$/g, ''), path, version, options }
}

export interface MountedRoot {
  fileSystem: FileSystem
  server: string | undefined
  /** The path of the whole root tree, even if the machine mounts only the store. */
  path: string
}

/** The root tree that an fstab mounts; undefined if the fstab names none, or if it is not clear. */
export function findMountedRoot(fileSystems: readonly FileSystem[]): MountedRoot | undefined {
  const root = fileSystemAt(fileSystems, '/')
  const fileSystem = root && isNfs(root) ? root : findRootFileSystem(fileSystems)
  if (!fileSystem || !isNfs(fileSystem)) return undefined
  try {
    // Options in a device are a mistake that `check` reports. They do not belong to the path.
    const { server, path } = parseNfsRoot(fileSystem.device)
    const part = fileSystem.mountPoint === '/' ? '' : fileSystem.mountPoint
    const whole = posix.join(path, subdirectoryOf(fileSystem)).replace(/\/+$/, '')
    if (!/^(?:\/nix(?:\/store)?)?$/.test(part) || !whole.endsWith(part)) return undefined
    return { fileSystem, server, path: whole.slice(0, whole.length - part.length) || '/' }
  } catch {
    return undefined
  }
}

/** mount(8): `X-mount.subdir` mounts this directory of the file system. */
function subdirectoryOf({ options }: FileSystem): string {
  return options.flatMap((option) => /^X-mount\.subdir=(.*)$/.exec(option)?.[1] ?? []).at(-1) ?? ''
}

/** The NFS root that an fstab names, with its version; undefined if the fstab names none. */
export function nfsRootOfFstab(fileSystems: readonly FileSystem[]): string | undefined {
  const mounted = findMountedRoot(fileSystems)
  if (!mounted) return undefined
  const { fileSystem, server, path } = mounted
  const host = server?.includes(':') ? `[${server}]` : server
  const device = host === undefined ? path : `${host}:${path}`
  const version = nfsVersionOf(fileSystem)
  return version === undefined ? device : `${device},v${version}`
}

/** `3`, `4`, `4.2`…; undefined if the client chooses the version. */
export function nfsVersionOf({ type, options }: FileSystem): string | undefined {
  const named = options.flatMap((option) => versionOption.exec(option)?.[1] ?? []).at(-1)
  return named ?? (type === 'nfs4' ? '4' : undefined)
}
