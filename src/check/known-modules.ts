/** The kernel modules that stage 1 can use. */
import type { InitrdFacts } from '../nixos/initrd/facts.ts'
import type { KernelModules } from '../nixos/kernel-modules.ts'
import type { BootEntry } from '../nixos/system.ts'
import type { CheckContext } from './context.ts'

export interface KnownModules {
  builtin: KernelModules
  /** Undefined if the entry has no initrd. */
  initrd: InitrdFacts | undefined
}

/** @returns undefined if some modules cannot be known; then a rule reports nothing */
export async function knownModules(
  context: CheckContext,
  entry: BootEntry,
): Promise<KnownModules | undefined> {
  const initrd = await context.initrdOf(entry)
  const builtin = (await context.builtinOf(entry)) ?? initrd?.builtin
  if (!builtin || initrd?.unread || (entry.initrd !== undefined && !initrd)) return undefined
  return { builtin, initrd }
}
