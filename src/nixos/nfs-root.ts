/**
 * `nfsroot=` as the kernel reads it: `[<server>:]<path>[,<options>]`.
 *
 * https://docs.kernel.org/admin-guide/nfs/nfsroot.html
 */
import { NetimageError } from '../errors.ts'
import type { FileSystem } from './fstab.ts'

export interface NfsRoot {
  /** As it stands on the kernel line. */
  text: string
  /** Undefined: the server that gave the machine its address. */
  server: string | undefined
  path: string
  /** `3`, `4`, `4.2`…, where the options name one. */
  version: string | undefined
  /** The other options. */
  options: string[]
}

export function parseNfsRoot(text: string): NfsRoot {
  const [, server, path, optionText = ''] =
    /^(?:([^/,:[\]]+|\[[^\]]+\]):)?(\/(?!\/)[^,]*)(?:,(.*))?$/.exec(text) ?? []
  if (path === undefined || /[\s\p{Cc}]/u.test(text)) {
    throw new NetimageError('bad-option', `nfsRoot: ${JSON.stringify(text)} is no NFS root`, {
      hint: 'It is written as on the kernel line: 192.168.0.108:/srv/nixos,v3',
    })
  }
  let version: string | undefined
  const options: string[] = []
  for (const option of optionText.split(',').filter(Boolean)) {
    const [, named] = /^(?:v|vers=|nfsvers=)([234](?:\.[0-2])?)$/.exec(option) ?? []
    if (named === undefined) options.push(option)
    else version = named
  }
  return { text, server: server?.replace(/^\[|\]$/g, ''), path, version, options }
}

/** The NFS root that an fstab names, with its version; undefined where it names none. */
export function nfsRootOfFstab(fileSystems: readonly FileSystem[]): string | undefined {
  const root = fileSystems.findLast(({ mountPoint }) => mountPoint === '/')
  if (root?.type !== 'nfs' && root?.type !== 'nfs4') return undefined
  try {
    // Options in a device are a mistake, which `check` names: no path has them.
    const { server, path } = parseNfsRoot(root.device)
    const { version } = parseNfsRoot(`/,${root.options.join(',')}`)
    const named = version ?? (root.type === 'nfs4' ? '4' : undefined)
    const host = server?.includes(':') ? `[${server}]` : server
    const device = host === undefined ? path : `${host}:${path}`
    return named === undefined ? device : `${device},v${named}`
  } catch {
    return undefined
  }
}
