/**
 * The kernel line: the system's own parameters and `init=`. `root=/dev/nfs` is added only if no
 * initrd mounts the root.
 */
import { fileSystemAt, isNfs, type FileSystem } from '../nixos/fstab.ts'
import type { Init } from '../nixos/initrd/facts.ts'
import type { NfsRoot } from '../nixos/nfs-root.ts'
import type { BootEntry } from '../nixos/system.ts'

export interface RootMount {
  /** The root is mounted by stage 1 (from the fstab), or by the kernel (from its line). */
  by: 'initrd' | 'kernel-line'
  /** The reason, as a clause that can follow "because". */
  why: string
}

export function findRootMount(entry: BootEntry, fileSystems: readonly FileSystem[]): RootMount {
  const root = kernelParameter(entry, 'root')
  // systemd does nothing for root=/dev/nfs, even if that parameter comes last.
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
 * Like `findRootMount`, but reads the initrd if necessary. If the initrd has an init, the kernel
 * mounts nothing itself, and NixOS's script mounts the root of the fstab.
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
    why: 'the script of its initrd mounts the root of the fstab and ignores root=',
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

/** The value of the last `name=` among the parameters: the kernel uses the last one. */
export function kernelParameter(entry: BootEntry, name: string): string | undefined {
  const prefix = `${name}=`
  return kernelWords(entry)
    .findLast((word) => word.startsWith(prefix))
    ?.slice(prefix.length)
}

/** The words before `--`. The kernel passes the words after `--` to init and does not read them. */
function kernelWords({ kernelParams }: BootEntry): string[] {
  const end = kernelParams.indexOf('--')
  return end < 0 ? kernelParams : kernelParams.slice(0, end)
}
