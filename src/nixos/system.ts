/** Reads a NixOS system (a toplevel): its label, platform, boot entries and fstab. */
import { NetimageError } from '../errors.ts'
import type { StorePath } from '../nix/store-path.ts'
import {
  checkSpecialisationName,
  isMenuPath,
  parseBootspec,
  parseSpecification,
  type Bootspec,
  type BootSpecification,
} from './bootspec.ts'
import { parseFstab, type FileSystem } from './fstab.ts'
import type { StoreFiles } from './store-files.ts'

/** One way to start the system: the system itself, or one of its specialisations. */
export interface BootEntry {
  /** Undefined for the system itself. */
  specialisation?: string | undefined
  label: string
  /** Paths in the store, with all links resolved. */
  kernel: string
  initrd?: string | undefined
  init: string
  kernelParams: string[]
  /** The directory of the device trees; undefined if there is none. */
  dtbs?: string | undefined
}

export interface System {
  toplevel: StorePath
  /** The NixOS label, as in `25.11.20261122.abcdef`. */
  label: string
  /** Nix's name of the platform: `aarch64-linux`. */
  platform: string
  /** The system itself first. */
  entries: BootEntry[]
  fileSystems: FileSystem[]
}

export async function readSystem(files: StoreFiles, toplevel: StorePath): Promise<System> {
  const text = (name: string) => files.text(`${toplevel}/${name}`)
  const bootspecText = await text('boot.json')
  const source = `${toplevel}/boot.json`
  const bootspec =
    (bootspecText === undefined ? undefined : parseBootspec(bootspecText, source)) ??
    (await readWithoutBootspec(files, toplevel))
  return {
    toplevel,
    label: checkedLabel(toplevel, (await text('nixos-version')) ?? bootspec.label),
    platform: checkedPlatform(toplevel, (await text('system')) ?? bootspec.system),
    entries: await readEntries(files, bootspec),
    fileSystems: parseFstab((await text('etc/fstab')) ?? ''),
  }
}

/**
 * The label becomes part of file names. https://search.nixos.org/options?query=system.nixos.label
 */
function checkedLabel(toplevel: StorePath, text: string): string {
  const label = text.trim()
  // Systems that were built before NixOS's rule may have more characters than the hint names.
  if (/^[0-9A-Za-z:_.+@~=-]*$/.test(label)) return label
  const problem = `the label of ${toplevel} is ${JSON.stringify(label)}, which cannot be part of a file name`
  throw new NetimageError('bad-system', problem, {
    details: { path: toplevel, field: 'label', actual: label },
    hint: 'Set system.nixos.label (letters, digits and “:_.-”), and build the system again.',
  })
}

/** The platform becomes part of file names. */
function checkedPlatform(toplevel: StorePath, text: string): string {
  const platform = text.trim()
  if (/^[0-9A-Za-z][0-9A-Za-z_.-]*$/.test(platform)) return platform
  const problem = `the platform of ${toplevel} is ${JSON.stringify(platform)}, which is not the name of a platform`
  throw new NetimageError('bad-system', problem, {
    details: { path: toplevel, field: 'platform', actual: platform },
    hint: 'The system’s file “system” must hold a name such as aarch64-linux. Build the system again.',
  })
}

async function readEntries(files: StoreFiles, bootspec: Bootspec): Promise<BootEntry[]> {
  const entries = [await readEntry(files, bootspec, undefined)]
  for (const [name, specialisation] of bootspec.specialisations) {
    entries.push(await readEntry(files, specialisation, name))
  }
  return entries
}

async function readEntry(
  files: StoreFiles,
  { label, kernel, initrd, init, kernelParams, toplevel }: Bootspec,
  specialisation: string | undefined,
): Promise<BootEntry> {
  const dtbs = await files.find(`${toplevel}/dtbs`)
  return {
    specialisation,
    label,
    kernel: await fileAt(files, kernel),
    initrd: initrd === undefined ? undefined : await fileAt(files, initrd),
    init,
    kernelParams,
    dtbs: dtbs?.kind === 'directory' ? menuPath(dtbs.path) : undefined,
  }
}

async function fileAt(files: StoreFiles, path: string): Promise<string> {
  const file = await files.find(path)
  if (file?.kind === 'file') return menuPath(file.path)
  throw new NetimageError('bad-system', `the system names the file ${path}, which does not exist`, {
    details: { path },
  })
}

function menuPath(path: string): string {
  if (isMenuPath(path)) return path
  throw new NetimageError('bad-system', `no boot menu can name ${JSON.stringify(path)}`, {
    details: { path },
    hint: 'The file’s name must not have blanks or control characters.',
  })
}

/**
 * Reads a system that has no bootspec: an older system, or one with `boot.bootspec.enable = false`.
 */
async function readWithoutBootspec(files: StoreFiles, toplevel: StorePath): Promise<Bootspec> {
  const init = await files.find(`${toplevel}/init`)
  const label = await files.text(`${toplevel}/nixos-version`)
  const system = await files.text(`${toplevel}/system`)
  if (!init || label === undefined || system === undefined) {
    throw new NetimageError('not-a-system', `${toplevel} is not a NixOS system`, {
      details: { path: toplevel },
      hint: 'Name the toplevel (the output of config.system.build.toplevel) or a flake’s host (.#host). A toplevel has the files init, nixos-version and system.',
    })
  }
  const specialisations = new Map<string, Bootspec>()
  for (const name of await files.names(`${toplevel}/specialisation`)) {
    const directory = await files.find(`${toplevel}/specialisation/${name}`)
    if (directory?.kind !== 'directory') continue
    checkSpecialisationName(name, `the system ${toplevel}`)
    const specification = await readSpecification(files, directory.path)
    specialisations.set(name, { ...specification, specialisations: new Map() })
  }
  return { ...(await readSpecification(files, toplevel)), specialisations }
}

/** The bootspec's fields, from the files of the toplevel at `path`. */
async function readSpecification(files: StoreFiles, path: string): Promise<BootSpecification> {
  const text = async (name: string) => (await files.text(`${path}/${name}`)) ?? ''
  const initrd = await files.find(`${path}/initrd`)
  const specification = {
    toplevel: path,
    label: (await text('nixos-version')).trim(),
    system: (await text('system')).trim(),
    init: `${path}/init`,
    kernel: `${path}/kernel`,
    ...(initrd && { initrd: `${path}/initrd` }),
    kernelParams: (await text('kernel-params')).split(/\s+/).filter(Boolean),
  }
  return parseSpecification(specification, `the system ${path}`)
}
