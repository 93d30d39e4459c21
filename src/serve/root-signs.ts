/** Finds out how far a machine has booted, from its operations in its root. */
import type { Report, RootEvent } from '../protocols/event.ts'
import type { FileSystem, NodeId } from '../protocols/nfs/file-system.ts'
import type { Machines } from './machines.ts'
import type { Observation } from '../protocols/nfs/program.ts'

/** nixos-rebuild and the first boot set the profile `system` in this directory. */
const profiles = ['nix', 'var', 'nix', 'profiles']
const systemProfile = Buffer.from('system')

export interface RootWatch {
  observe: (seen: Observation) => void
  boots: (machine: string) => void
}

const naming = new Set(['CREATE', 'SYMLINK', 'RENAME', 'LINK'])

/** The caller must call `boots` when a machine begins to boot. */
export function watchRoots(machines: Machines, report: Report): RootWatch {
  // Each step is reported once for each boot.
  const told = new Map<string, Set<RootEvent['step']>>()

  function tell(machine: string, step: RootEvent['step']): void {
    const steps = told.get(machine)
    if (steps?.has(step)) return
    if (steps) steps.add(step)
    else told.set(machine, new Set([step]))
    report({ ...clueOf(machine), kind: 'root', step })
  }

  function observe({ machine, procedure, node, directory, name }: Observation): void {
    if (procedure === 'READ' && node !== undefined) {
      const root = machines.rootOf(machine)
      if (!root?.isInit(node)) return
      // A machine reads init at each boot, but registers the store only at the first.
      if (told.get(machine)?.has('init')) return
      tell(machine, 'init')
      if (findSystemProfile(root.fileSystem)) tell(machine, 'registered')
    } else if (naming.has(procedure) && name?.equals(systemProfile)) {
      const root = machines.rootOf(machine)
      if (root && directory === findPath(root.fileSystem, profiles)) tell(machine, 'registered')
    }
  }

  return { observe, boots: (machine) => void told.delete(machine) }
}

function clueOf(machine: string): { mac: string } | { address: string } {
  return machine.includes(':') ? { mac: machine } : { address: machine }
}

function findSystemProfile(fileSystem: FileSystem): boolean {
  const directory = findPath(fileSystem, profiles)
  return directory !== undefined && fileSystem.lookup(directory, systemProfile) !== undefined
}

function findPath(fileSystem: FileSystem, names: readonly string[]): NodeId | undefined {
  let node: NodeId | undefined = fileSystem.root
  for (const name of names) {
    if (node === undefined || fileSystem.attributes(node).kind !== 'directory') return undefined
    node = fileSystem.lookup(node, Buffer.from(name))
  }
  return node
}
