/** How a system mounts its root over NFS. */
import { kernelParameter } from '../boot/kernel-line.ts'
import { isNfs } from '../nixos/fstab.ts'
import { nfsVersionOf, parseNfsRoot, type NfsRoot } from '../nixos/nfs-root.ts'
import type { InitrdFacts } from '../nixos/initrd/facts.ts'
import type { BootEntry } from '../nixos/system.ts'
import type { CheckContext } from './context.ts'
import { knownModules } from './known-modules.ts'

/** Whether the entry's root, or its store, comes from NFS. */
export async function wantsNfs(context: CheckContext, entry: BootEntry): Promise<boolean> {
  if ((await context.rootMountOf(entry)).by === 'kernel-line') return true
  return context.rootFileSystem !== undefined && isNfs(context.rootFileSystem)
}

/** Like `wantsNfs`, but false if the kernel itself mounts the root. */
export async function mountsNfsInStage1(context: CheckContext, entry: BootEntry): Promise<boolean> {
  if ((await context.rootMountOf(entry)).by === 'kernel-line') return false
  return await wantsNfs(context, entry)
}

/** `3`, `4`, `4.2`…; undefined if the client chooses the version. */
export async function wantedNfsVersion(
  context: CheckContext,
  entry: BootEntry,
): Promise<string | undefined> {
  const { rootFileSystem } = context
  if ((await context.rootMountOf(entry)).by === 'kernel-line') {
    const own = kernelParameter(entry, 'nfsroot')
    return own === undefined ? context.nfsRoot?.version : readNfsRoot(own)?.version
  }
  if (rootFileSystem === undefined) return undefined
  const device = readNfsRoot(rootFileSystem.device)
  return nfsVersionOf(rootFileSystem) ?? device?.version
}

/**
 * The version that stage 1 mounts with. If no option names a version, mount.nfs tries the newest
 * version of the kernel first, and busybox and the kernel's own parser use version 3. Undefined if
 * the version cannot be known.
 */
export async function mountedNfsVersion(
  context: CheckContext,
  entry: BootEntry,
): Promise<string | undefined> {
  const wanted = await wantedNfsVersion(context, entry)
  if (wanted !== undefined || !(await mountsNfsInStage1(context, entry))) return wanted
  const initrd = await context.initrdOf(entry)
  if (initrd?.unread || (initrd?.init.kind !== 'systemd' && initrd?.init.kind !== 'scripted')) {
    return undefined
  }
  if (mountHelper(initrd) === undefined) return '3'
  const known = await knownModules(context, entry)
  if (!known) return undefined
  return known.builtin.has('nfsv4') || initrd.modules.has('nfsv4') ? '4' : '3'
}

const helpers = ['mount.nfs', 'mount.nfs4']

/**
 * The program that mounts NFS for `mount`. systemd mounts with util-linux, which looks for this
 * program only in `/sbin` of the initrd.
 */
export function mountHelper({ init, programs, sbin }: InitrdFacts): string | undefined {
  const found = init.kind === 'systemd' ? sbin : programs
  return helpers.find((name) => found.has(name))
}

/** The path in the initrd of a helper that `mount` does not find. */
export function unfoundHelper(initrd: InitrdFacts): string | undefined {
  if (mountHelper(initrd) !== undefined) return undefined
  return helpers.map((name) => initrd.programs.get(name)).find((path) => path !== undefined)
}

/** Reads a device of an fstab like `nfsroot=`, with the options that some people write there. */
export function readNfsRoot(text: string): NfsRoot | undefined {
  try {
    return parseNfsRoot(text)
  } catch {
    return undefined
  }
}
