/** Finds in an fstab where the running system's store comes from. */
import { posix } from 'node:path'

import { fileSystemAt, isNfs, type FileSystem } from './fstab.ts'

/** The store may have a mount of its own. */
const storePlaces = ['/nix/store', '/nix', '/']

/**
 * The file system that holds the store. For a bind mount this is the file system of the source; for
 * an overlay, the NFS file system of a layer, if there is one. Undefined if the fstab names none.
 */
export function findRootFileSystem(fileSystems: readonly FileSystem[]): FileSystem | undefined {
  for (const place of storePlaces) {
    const found = fileSystemAt(fileSystems, place)
    if (found) return lieBeneath(found, fileSystems)
  }
  return undefined
}

/** The file system of the running machine that holds `path`; undefined if the fstab names none. */
export function fileSystemOf(
  path: string,
  fileSystems: readonly FileSystem[],
): FileSystem | undefined {
  const holder = holderOf(path, fileSystems)
  return holder && lieBeneath(holder, fileSystems)
}

/**
 * @param others the file systems it may show. Each is used once, since mounts may form a circle.
 */
function lieBeneath(fileSystem: FileSystem, others: readonly FileSystem[]): FileSystem {
  const rest = others.filter((other) => other !== fileSystem)
  const beneath = sourcesOf(fileSystem).flatMap((path) => {
    const holder = holderOf(path, rest)
    return holder ? [lieBeneath(holder, rest)] : []
  })
  return (
    beneath.find(isNfs) ?? (fileSystem.type === 'overlay' ? undefined : beneath[0]) ?? fileSystem
  )
}

/** The directories of the machine that a bind mount or an overlay shows. */
function sourcesOf({ type, device, options }: FileSystem): string[] {
  if (type === 'overlay') {
    const layers = options.flatMap(
      (option) => /^(?:lower|upper)dir\+?=(.*)$/.exec(option)?.[1] ?? [],
    )
    return layers.flatMap((paths) => paths.split(':')).filter(Boolean)
  }
  const isBind = options.some((option) => option === 'bind' || option === 'rbind')
  return isBind && device.startsWith('/') ? [device] : []
}

/** NixOS names paths of the root by their places during stage 1. */
const stage1Root = /^\/(?:sysroot|mnt-root)(?=\/|$)/

function holderOf(path: string, fileSystems: readonly FileSystem[]): FileSystem | undefined {
  const place = posix.join('/', path.replace(stage1Root, ''), '/')
  return fileSystems
    .filter(({ mountPoint }) => place.startsWith(posix.join(mountPoint, '/')))
    .reduce<FileSystem | undefined>(
      (deepest, next) =>
        next.mountPoint.length >= (deepest?.mountPoint.length ?? 0) ? next : deepest,
      undefined,
    )
}
