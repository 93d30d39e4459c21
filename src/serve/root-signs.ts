/** Finds out what a machine does, from its operations in its root. */
import { toStorePath, type StorePath } from '../nix/store-path.ts'
import type { Report, RootEvent } from '../protocols/event.ts'
import type { FileSystem, NodeId } from '../protocols/nfs/file-system.ts'
import type { Observation } from '../protocols/nfs/program.ts'
import { findNode } from '../roots/find-node.ts'
import type { Sign } from '../site/life/attempts.ts'
import { failedNote, goodNote, notesDirectory, readFailedNote, readGoodNote } from './boot-notes.ts'
import { macOf } from './machine-name.ts'
import type { MachineRoot } from './machines.ts'

/** nixos-rebuild and the first boot set the profile `system` in this directory. */
const profiles = ['nix', 'var', 'nix', 'profiles']
const systemProfile = 'system'

export interface RootWatchSettings {
  machines: { rootOf(machine: string): Pick<MachineRoot, 'fileSystem' | 'isInit'> | undefined }
  report: Report
  onSign: (machine: string, sign: Sign) => void
}

export interface RootWatch {
  observe: (seen: Observation) => void
  boots: (machine: string) => void
}

const naming = new Set(['CREATE', 'SYMLINK', 'RENAME', 'LINK'])

/** The caller must call `boots` when a machine begins to boot. */
export function watchRoots({ machines, report, onSign }: RootWatchSettings): RootWatch {
  // Each step is reported once for each boot.
  const told = new Map<string, Set<RootEvent['step']>>()

  function tell(machine: string, step: RootEvent['step']): void {
    const steps = told.get(machine)
    if (steps?.has(step)) return
    if (steps) steps.add(step)
    else told.set(machine, new Set([step]))
    const { mac } = macOf(machine)
    report({ ...(mac === undefined ? { address: machine } : { mac }), kind: 'root', step })
  }

  function read(machine: string, node: NodeId): void {
    // A machine reads init at each boot, but registers the store only if it has changed.
    if (told.get(machine)?.has('init')) return
    const root = machines.rootOf(machine)
    if (!root?.isInit(node)) return
    tell(machine, 'init')
    if (findNode(root.fileSystem, [...profiles, systemProfile]) !== undefined)
      tell(machine, 'registered')
  }

  function names(machine: string, directory: NodeId | undefined, name: Buffer): void {
    const known = watched.get(name.toString('latin1'))
    const root = known && machines.rootOf(machine)
    if (!known || !root || findNode(root.fileSystem, known) !== directory) return
    if (known === profiles) {
      tell(machine, 'registered')
      const toplevel = profileIn(root.fileSystem)
      if (toplevel !== undefined) onSign(machine, { kind: 'profile', toplevel })
    } else {
      const isGood = name.equals(Buffer.from(goodNote))
      const sign = isGood ? readGoodNote(root.fileSystem) : readFailedNote(root.fileSystem)
      if (sign) onSign(machine, sign)
    }
  }

  return {
    observe({ machine, procedure, node, directory, name }) {
      onSign(machine, { kind: 'alive' })
      if (procedure === 'READ' && node !== undefined) read(machine, node)
      else if (naming.has(procedure) && name) names(machine, directory, name)
    },
    boots: (machine) => void told.delete(machine),
  }
}

/** The directories in which these names say something. */
const watched = new Map<string, readonly string[]>([
  [systemProfile, profiles],
  [goodNote, notesDirectory],
  [failedNote, notesDirectory],
])

/** @returns the system that the profile `system` names, through one link for its generation */
function profileIn(fileSystem: FileSystem): StorePath | undefined {
  const directory = findNode(fileSystem, profiles)
  let target: Buffer = Buffer.from(systemProfile)
  for (let links = 0; directory !== undefined && links < 2; links++) {
    const node = fileSystem.lookup(directory, target)
    if (node === undefined || fileSystem.attributes(node).kind !== 'symlink') return undefined
    target = fileSystem.readLink(node)
    const path = toStorePath(target.toString())
    if (path) return path
    if (target.includes('/')) return undefined
  }
  return undefined
}
