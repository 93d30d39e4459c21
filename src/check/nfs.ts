/** What a system's root over NFS asks for. */
import { kernelParameter } from '../boot/kernel-line.ts'
import { isNfs } from '../nixos/fstab.ts'
import { nfsVersionOf, parseNfsRoot, type NfsRoot } from '../nixos/nfs-root.ts'
import type { BootEntry } from '../nixos/system.ts'
import type { CheckContext } from './context.ts'

/** Whether the entry's root, or its store, comes from NFS. */
export function wantsNfs(context: CheckContext, entry: BootEntry): boolean {
  if (context.rootMountOf(entry).by === 'kernel-line') return true
  return context.rootFileSystem !== undefined && isNfs(context.rootFileSystem)
}

/** The same, where it is stage 1 that mounts it, and not the kernel by its line. */
export function mountsNfsInStage1(context: CheckContext, entry: BootEntry): boolean {
  return wantsNfs(context, entry) && context.rootMountOf(entry).by !== 'kernel-line'
}

/** `3`, `4`, `4.2`…; undefined where it is left to the client. */
export function wantedNfsVersion(context: CheckContext, entry: BootEntry): string | undefined {
  const { rootFileSystem } = context
  if (context.rootMountOf(entry).by === 'kernel-line') {
    const own = kernelParameter(entry, 'nfsroot')
    return own === undefined ? context.nfsRoot?.version : readNfsRoot(own)?.version
  }
  if (rootFileSystem === undefined) return undefined
  const device = readNfsRoot(rootFileSystem.device)
  return nfsVersionOf(rootFileSystem) ?? device?.version
}

/** Devices of an fstab look like `nfsroot=`, down to the options that do not belong into them. */
export function readNfsRoot(text: string): NfsRoot | undefined {
  try {
    return parseNfsRoot(text)
  } catch {
    return undefined
  }
}
