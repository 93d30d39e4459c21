/**
 * The kernel line: the system's own parameters and `init=`; and the kernel's own way to an NFS
 * root only where the system was made for that.
 */
import { fileSystemAt, isNfs, type FileSystem } from '../nixos/fstab.ts'
import type { Init } from '../nixos/initrd/facts.ts'
import type { NfsRoot } from '../nixos/nfs-root.ts'
import type { BootEntry } from '../nixos/system.ts'

export interface RootMount {
  /** Who mounts the root: stage 1 by the fstab, or the kernel line's `root=`. */
  by: 'initrd' | 'kernel-line'
  /** Why, as the end of a sentence that begins with who. */
  why: string
}

export function findRootMount(entry: BootEntry, fileSystems: readonly FileSystem[]): RootMount {
  const root = kernelParameter(entry, 'root')
  // systemd does nothing for root=/dev/nfs, also where it comes last.
  const isFstab = entry.kernelParams.includes('root=fstab')
  if (root === 'fstab' || (root === '/dev/nfs' && isFstab)) {
    return { by: 'initrd', why: 'the kernel line has root=fstab' }
  }
  if (root === '/dev/nfs') return { by: 'kernel-line', why: 'the kernel line has root=/dev/nfs' }
  if (root !== undefined) return { by: 'initrd', why: `the kernel line has root=${root}` }
  if (entry.initrd === undefined) {
    return { by: 'kernel-line', why: 'there is no initrd that could mount it' }
  }
  const mounted = fileSystemAt(fileSystems, '/')
  if (!mounted) return { by: 'kernel-line', why: 'the fstab names no root' }
  const kind = isNfs(mounted) ? 'from NFS' : `of the type ${mounted.type}`
  return { by: 'initrd', why: `the fstab has a root ${kind}, which the initrd mounts` }
}

/**
 * The same, where it takes a look into the initrd: a kernel whose initrd has an init mounts nothing
 * itself, whatever its line says, and NixOS's script mounts what the fstab names.
 */
export async function readRootMount(
  entry: BootEntry,
  fileSystems: readonly FileSystem[],
  initOf: (entry: BootEntry) => Promise<Init | undefined>,
): Promise<RootMount> {
  const mount = findRootMount(entry, fileSystems)
  const isNamed = fileSystemAt(fileSystems, '/') !== undefined
  if (mount.by === 'initrd' || entry.initrd === undefined || !isNamed) return mount
  if ((await initOf(entry))?.kind !== 'scripted') return mount
  return {
    by: 'initrd',
    why: 'its script mounts what the fstab names, whatever root= says',
  }
}

/** The whole kernel line of an entry. */
export function kernelLine(
  entry: BootEntry,
  fileSystems: readonly FileSystem[],
  nfsRoot: NfsRoot,
): string {
  const added: string[] = []
  if (findRootMount(entry, fileSystems).by === 'kernel-line') {
    if (kernelParameter(entry, 'root') === undefined) added.push('root=/dev/nfs')
    if (kernelParameter(entry, 'nfsroot') === undefined) added.push(`nfsroot=${nfsRoot.text}`)
    if (kernelParameter(entry, 'ip') === undefined) added.push('ip=dhcp')
  }
  const own = kernelWords(entry)
  const forInit = entry.kernelParams.slice(own.length)
  return [`init=${entry.init}`, ...own, ...added, ...forInit].join(' ')
}

/** The value of the last `name=` among the parameters, which is the one that counts. */
export function kernelParameter(entry: BootEntry, name: string): string | undefined {
  const prefix = `${name}=`
  return kernelWords(entry)
    .findLast((word) => word.startsWith(prefix))
    ?.slice(prefix.length)
}

/** What follows `--` is for init, and the kernel does not look at it. */
function kernelWords({ kernelParams }: BootEntry): string[] {
  const end = kernelParams.indexOf('--')
  return end < 0 ? kernelParams : kernelParams.slice(0, end)
}
