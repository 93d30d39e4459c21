/** Describes a system or an image: label, platform, kernel, closure, root file system. */
import { readRootMount, type RootMount } from '../boot/kernel-line.ts'
import type { StorePath } from '../nix/store-path.ts'
import { fileSystemAt, type FileSystem } from '../nixos/fstab.ts'
import { readInitrdFile } from '../nixos/initrd/facts.ts'
import { parseNfsRoot, type NfsRoot } from '../nixos/nfs-root.ts'
import { findStoreFile } from '../nixos/store-files.ts'
import type { BootEntry, System } from '../nixos/system.ts'
import { withSubject, type Subject, type SubjectRequest } from './subject.ts'

export interface Inspection {
  kind: 'system' | 'image'
  system: System
  /** The file system at `/`; undefined if the system's fstab has none. */
  rootFileSystem: FileSystem | undefined
  /** Whether stage 1 or the kernel line's `root=` mounts the root, and why. */
  rootMount: RootMount | undefined
  closure: {
    paths: number
    /** NAR bytes. */
    bytes: number
    /** The ten largest paths. */
    largest: { path: StorePath; narSize: number }[]
  }
  /** Where the root is, if the system is a host of a flake that has netimage's module. */
  nfsRoot?: NfsRoot
  /** Only if the subject is an image. */
  image?: {
    rootDirectoryName: string
    nfsRoot: NfsRoot
    format: 'directory' | 'tar'
    /** The number of files in the boot tree. */
    bootFiles: number
  }
}

export type InspectRequest = SubjectRequest

const largestShown = 10

export async function inspect(request: InspectRequest): Promise<Inspection> {
  return await withSubject(request, describe)
}

async function describe({
  system,
  closure,
  image,
  treeOf,
  settings,
}: Subject): Promise<Inspection> {
  const largest = [...closure].sort((a, b) => b.narSize - a.narSize).slice(0, largestShown)
  const [main] = system.entries
  const initOf = async ({ initrd }: BootEntry) => {
    const file = initrd === undefined ? undefined : await findStoreFile(treeOf, initrd)
    return file?.kind === 'file' ? (await readInitrdFile(file.real)).init : undefined
  }
  return {
    kind: image ? 'image' : 'system',
    system,
    rootMount: main && (await readRootMount(main, system.fileSystems, initOf)),
    rootFileSystem: fileSystemAt(system.fileSystems, '/'),
    closure: {
      paths: closure.length,
      bytes: closure.reduce((sum, { narSize }) => sum + narSize, 0),
      largest: largest.map(({ path, narSize }) => ({ path, narSize })),
    },
    ...(settings?.options?.nfsRoot !== undefined && {
      nfsRoot: parseNfsRoot(settings.options.nfsRoot),
    }),
    ...(image && { image: describeImage(image) }),
  }
}

function describeImage({ manifest, options }: NonNullable<Subject['image']>) {
  return {
    rootDirectoryName: options.rootDirectoryName,
    nfsRoot: parseNfsRoot(options.nfsRoot),
    format: manifest.root.format,
    bootFiles: manifest.boot.files.filter((file) => file.type !== 'directory').length,
  }
}
