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
  /**
   * To be called when the root of a machine has been opened. An earlier run of the server may have
   * been killed before it read a note of this boot, or before it wrote that the profile names another
   * system. Notes of earlier boots are not there any more.
   */
  opens: (machine: string) => void
}

const naming = new Set(['CREATE', 'SYMLINK', 'RENAME', 'LINK'])

/**
 * A machine may give names as often as it likes. What stands under a name is read once in this time,
 * and the last name is never missed. Milliseconds.
 */
const readMs = 1000

/** Where a watched name was given since it was read last; `open`: in a root that was opened since. */
type Places = Set<NodeId | 'open'>

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

  function reads(machine: string, node: NodeId): void {
    // A machine reads init at each boot, but registers the store only if it has changed.
    if (told.get(machine)?.has('init')) return
    const root = machines.rootOf(machine)
    if (!root?.isInit(node)) return
    tell(machine, 'init')
    if (findNode(root.fileSystem, [...profiles, systemProfile]) !== undefined)
      tell(machine, 'registered')
  }

  /** By machine and name, while the name is not to be read. */
  const resting = new Map<string, Places>()

  function names(machine: string, name: string, place: NodeId | 'open'): void {
    const places = resting.get(`${machine} ${name}`)
    if (places) places.add(place)
    else read(machine, name, new Set([place]))
  }

  /** @throws `FileSystemError`; it is read again later then */
  function read(machine: string, name: string, places: Places): void {
    const [key, later]: [string, Places] = [`${machine} ${name}`, new Set()]
    resting.set(key, later)
    const timer = setTimeout(() => {
      resting.delete(key)
      if (later.size > 0) readSafely(machine, name, later)
    }, readMs)
    timer.unref()
    try {
      look(machine, name, places)
    } catch (error) {
      for (const place of places) later.add(place)
      throw error
    }
  }

  /** The machine gets the same error when it uses its root, and the error is reported then. */
  function readSafely(machine: string, name: string, places: Places): void {
    try {
      read(machine, name, places)
    } catch {
      // It is read again.
    }
  }

  function look(machine: string, name: string, places: Places): void {
    const directory = watched.get(name)
    const root = directory && machines.rootOf(machine)
    if (!root) return
    const found = findNode(root.fileSystem, directory)
    if (found === undefined || !(places.has(found) || places.has('open'))) return
    if (name === systemProfile) {
      if (places.has(found)) tell(machine, 'registered')
      const toplevel = profileIn(root.fileSystem)
      if (toplevel !== undefined) onSign(machine, { kind: 'profile', toplevel })
    } else {
      const sign =
        name === goodNote ? readGoodNote(root.fileSystem) : readFailedNote(root.fileSystem)
      if (sign) onSign(machine, sign)
    }
  }

  return {
    observe({ machine, procedure, node, directory, name }) {
      onSign(machine, { kind: 'alive' })
      if (procedure === 'READ' && node !== undefined) reads(machine, node)
      if (!naming.has(procedure) || !name || directory === undefined) return
      const text = name.toString('latin1')
      if (watched.has(text)) names(machine, text, directory)
    },
    boots: (machine) => void told.delete(machine),
    opens(machine) {
      for (const name of [failedNote, goodNote, systemProfile])
        readSafely(machine, name, new Set(['open']))
    },
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
