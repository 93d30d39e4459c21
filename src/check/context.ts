/** The facts for rules. Each fact is read when a rule first asks for it, and only once. */
import { readFile } from 'node:fs/promises'
import { join, posix } from 'node:path'

import { readRootMount, type RootMount } from '../boot/kernel-line.ts'
import { errnoOf, fileSystemError } from '../errors.ts'
import type { TreeFile } from '../tree-files.ts'
import type { FileSystem } from '../nixos/fstab.ts'
import { readInitrdFile, type InitrdFacts } from '../nixos/initrd/facts.ts'
import { readBuiltinModules, type KernelModules } from '../nixos/kernel-modules.ts'
import { parseNfsRoot, type NfsRoot } from '../nixos/nfs-root.ts'
import { findRootFileSystem } from '../nixos/root-file-system.ts'
import {
  findStoreFile,
  listStoreDirectory,
  readStoreText,
  type StoreFile,
} from '../nixos/store-files.ts'
import type { BootEntry, System } from '../nixos/system.ts'
import type { CheckedImage, CheckInput } from './input.ts'
import { findSecretsInStore, type StoreSecrets } from './store-secrets.ts'

export interface CheckContext {
  system: System
  nfsRoot: NfsRoot | undefined
  /** The file system of the store on the machine; undefined if the fstab names none. */
  rootFileSystem: FileSystem | undefined
  rootMountOf(entry: BootEntry): Promise<RootMount>
  initrdOf(entry: BootEntry): Promise<InitrdFacts | undefined>
  /** Modules that are built into an entry's kernel; undefined if the system has no list of them. */
  builtinOf(entry: BootEntry): Promise<KernelModules | undefined>
  storeFile(path: string): Promise<StoreFile | undefined>
  /** The text of a file in the store; undefined if there is none. */
  storeText(path: string): Promise<string | undefined>
  storeNames(directory: string): Promise<string[]>
  secretsInStore(): Promise<StoreSecrets>
  boot: BootTree | undefined
  rootFiles: readonly TreeFile[]
}

export interface BootTree {
  files: ReadonlyMap<string, TreeFile>
  /** The text of a file, by its path in the tree; undefined if there is none. */
  text(path: string): Promise<string | undefined>
}

export function createContext(input: CheckInput): CheckContext {
  const { system, treeOf, image } = input
  const initrds = new Map<string, Promise<InitrdFacts | undefined>>()
  const builtins = new Map<string, Promise<KernelModules | undefined>>()
  const mounts = new Map<string, Promise<RootMount>>()
  let secrets: Promise<StoreSecrets> | undefined

  async function readInitrd(path: string): Promise<InitrdFacts | undefined> {
    const file = await findStoreFile(treeOf, path)
    return file?.kind === 'file' ? await readInitrdFile(file.real) : undefined
  }

  async function initrdOf({ initrd }: BootEntry): Promise<InitrdFacts | undefined> {
    return initrd === undefined ? undefined : await once(initrds, initrd, readInitrd)
  }

  return {
    system,
    nfsRoot: input.nfsRoot === undefined ? undefined : parseNfsRoot(input.nfsRoot),
    rootFileSystem: findRootFileSystem(system.fileSystems),
    async rootMountOf(entry) {
      const initOf = async () => (await initrdOf(entry))?.init
      return await once(mounts, entry.init, () => readRootMount(entry, system.fileSystems, initOf))
    },
    initrdOf,
    async builtinOf({ init }) {
      const toplevel = posix.dirname(init)
      return await once(builtins, toplevel, (path) => readBuiltinModules(treeOf, path))
    },
    storeFile: (path) => findStoreFile(treeOf, path),
    storeText: (path) => readStoreText(treeOf, path),
    storeNames: (directory) => listStoreDirectory(treeOf, directory),
    secretsInStore: () => (secrets ??= findSecretsInStore(input)),
    boot: image && openBootTree(image),
    rootFiles: image?.rootFiles ?? [],
  }
}

/** Makes the value of each key once, even if several rules ask at the same time. */
async function once<T>(
  made: Map<string, Promise<T>>,
  key: string,
  make: (key: string) => Promise<T>,
): Promise<T> {
  const promise = made.get(key) ?? make(key)
  made.set(key, promise)
  return await promise
}

function openBootTree({ bootTree, bootFiles }: CheckedImage): BootTree {
  const files = new Map(bootFiles.map((file) => [file.path, file]))
  return {
    files,
    async text(path) {
      const file = files.get(path)
      if (file?.type !== 'file' || file.size > maxTextBytes) return undefined
      try {
        return await readFile(join(bootTree, path), 'utf8')
      } catch (error) {
        if (errnoOf(error) === 'ENOENT') return undefined
        throw fileSystemError(`could not read ${path} of the boot tree`, error)
      }
    },
  }
}

const maxTextBytes = 1 << 20
