// Builds the demo system with real Nix: a small closure in the shape of NixOS that a machine can
// boot.

import { join } from 'node:path'
import {
  addBuilderShell,
  createNixWorld,
  findStaticBusybox,
  runProgram,
} from '../../test/support/real-nix.ts'
import type { CacheOptions, NixWorld } from '../../test/support/real-nix.ts'

export const demoSystems = ['x86_64-linux', 'aarch64-linux'] as const
export type DemoSystemName = (typeof demoSystems)[number]

export type DemoSystemOptions = {
  /** The platform of the machine that boots the system. */
  system?: DemoSystemName
  /** Debian's packages are kept here between builds; about 120 MB for each system. */
  cacheDirectory: string
  /**
   * The directory of the private Nix store. If the store has the system already, no build is
   * needed.
   */
  worldDirectory: string
  label?: string
  /** The device and the options of the root file system in the system's fstab. */
  rootDevice?: string
  rootOptions?: string
  /** Another kernel, for updates; it is downloaded when it is first needed, about 35 MB. */
  otherKernel?: boolean
  /** The kernel of User Mode Linux, for machines that are a program of this machine. */
  umlKernel?: boolean
  /** Mostly for systems that do not boot; see system.nix. */
  changes?: Partial<Record<Change, string>>
}

type Change =
  | 'rootType'
  | 'kernelParams'
  | 'changeInitrd'
  | 'initrdBytes'
  | 'kernelBytes'
  | 'stage2'
  | 'retryAfter'
  | 'uefiStub'

export type DemoSystem = {
  world: NixWorld
  /** The system's /nix/store is <storeRoot>/nix/store on this machine. */
  storeRoot: string
  toplevel: string
  /** Boots an x86_64 system on this machine without an emulator; both are plain files. */
  uml?: { kernel: string; initrd: string }
}

export async function buildDemoSystem({
  system = 'x86_64-linux',
  cacheDirectory,
  worldDirectory,
  label,
  rootDevice,
  rootOptions,
  otherKernel = false,
  umlKernel = false,
  changes = {},
}: DemoSystemOptions): Promise<DemoSystem> {
  const prepare = async (script: string) => {
    const file = join(import.meta.dirname, script)
    return (await runProgram('sh', [file, cacheDirectory, system])).trim()
  }
  const prepared = await prepare('prepare.sh')

  const world = await createNixWorld(worldDirectory)
  const shell = await addBuilderShell(world, await findStaticBusybox())
  const strings: Record<string, string> = { ...changes, prepared, shell, system }
  if (label !== undefined) strings['label'] = label
  if (rootDevice !== undefined) strings['rootDevice'] = rootDevice
  if (rootOptions !== undefined) strings['rootOptions'] = rootOptions
  if (otherKernel) strings['otherKernel'] = await prepare('other-kernel.sh')
  if (umlKernel) strings['umlKernel'] = 'yes'
  const build = async (attribute: string) => {
    const file = join(import.meta.dirname, 'system.nix')
    const [path] = await world.build({ file }, { attribute, strings })
    if (path === undefined) throw new Error(`Nix built "${attribute}" but printed no store path.`)
    return path
  }

  const toplevel = await build('toplevel')
  const demo = { world, storeRoot: world.storeRoot, toplevel }
  if (system !== 'x86_64-linux') return demo
  const umlInitrd = world.realPath(await build('umlInitrd'))
  const uml = { kernel: join(prepared, 'uml', 'linux'), initrd: join(umlInitrd, 'initrd') }
  return { ...demo, uml }
}

/** Copies the system to a binary cache in a directory. */
export async function cacheDemoSystem(
  { world, toplevel }: DemoSystem,
  cacheDirectory: string,
  { compression = 'zstd', ...options }: CacheOptions = {},
): Promise<void> {
  await world.copyToCache([toplevel], cacheDirectory, { compression, ...options })
}
