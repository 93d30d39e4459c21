/**
 * The options of a net image, by the names that the Nix module gave them.
 */
import { inspect } from 'node:util'
import * as v from 'valibot'

import { findRootMount, kernelParameter } from '../boot/kernel-line.ts'
import { bootWays, type BootWay } from '../boot/ways.ts'
import { NetimageError } from '../errors.ts'
import { parseMac } from '../mac.ts'
import { splitStorePath, type StorePath } from '../nix/store-path.ts'
import { isPlainObject } from '../plain-object.ts'
import { nfsRootOfFstab, parseNfsRoot } from '../nixos/nfs-root.ts'
import type { System } from '../nixos/system.ts'
import { withoutUndefined } from '../without-undefined.ts'

/** The options that a person may set. Missing options have the default of the Nix module. */
export interface NetImageOptions {
  /** First part of the default names. Default: `nixos-net-image`. */
  imageBaseName?: string
  /** Name of the root tree. Default: `<imageBaseName>-<label>-<system>`. */
  rootDirectoryName?: string
  /** More store paths for the root tree, with their closures. The system is always in the tree. */
  storePaths?: string[]
  /**
   * Where the machine mounts its root from, written like the kernel's `nfsroot=`. Default: the root
   * in the system's fstab or kernel line; else
   * `192.168.0.108:/mnt/nfsshare/<imageBaseName>-<label>-<system>,v3`.
   */
  nfsRoot?: string
  /** Shell commands. Files that they make in their working directory become the boot tree. */
  populateFirmwareCommands?: string
  /** Shell commands. Files that they make in `./files` become part of the root tree. */
  populateRootCommands?: string
}

/** The options that a config file and the NixOS module may set: all options of an image. */
export interface NetImageConfig extends NetImageOptions {
  /** Ways of booting that the boot tree is made for. Default: those that the system asks for. */
  boot?: BootWay[]
  /** The device tree that U-Boot loads, such as `rockchip/rk3399-rockpro64.dtb`. */
  deviceTree?: string
  /** A directory with the Raspberry Pi’s firmware. */
  firmware?: string
  /** U-Boot, which a Raspberry Pi’s firmware starts in place of the kernel. */
  uboot?: string
  /** Lines for the end of the Raspberry Pi’s `config.txt`. */
  configTxt?: string
  /** A directory with iPXE’s loaders. */
  ipxe?: string
  /** systemd’s stub, if the system’s closure has none. */
  uefiStub?: string
  /** Hardware addresses of machines with a `pxelinux.cfg` of their own. */
  machines?: string[]
  /** Rules of `check` to leave out. */
  silence?: string[]
}

/** The options as the manifest records them. */
export type SettledOptions = Required<NetImageOptions>

/** The number of characters of a wrong value that an error shows. */
const maxShown = 200

const maxNameBytes = 200

const directoryName = v.pipe(
  v.string(),
  v.regex(/^(?!\.{1,2}$)[^/\0\n]+$/, 'it must be the name of one directory, without slashes'),
  v.check(
    (text) => Buffer.byteLength(text) <= maxNameBytes,
    `it must have no more than ${maxNameBytes} bytes`,
  ),
)

const imageBaseName = v.pipe(
  directoryName,
  v.regex(/^[^\s,]*$/, 'it must have no spaces and no commas: it becomes part of the kernel line'),
)

const rootDirectoryName = v.pipe(
  directoryName,
  v.check((text) => text !== 'boot', 'it must not be the name of the boot tree'),
)

const nfsRoot = v.pipe(
  v.string(),
  v.check((text) => {
    try {
      parseNfsRoot(text)
      return true
    } catch {
      return false
    }
  }, 'it must be written as on the kernel line: 192.168.0.108:/srv/nixos,v3'),
)

const storePath = v.pipe(
  v.string(),
  v.check((text) => splitStorePath(text) !== undefined, 'it must be a path in /nix/store'),
)

/** The schema of each option; the names of this object are the names of the options. */
const optionSchemas = {
  imageBaseName,
  rootDirectoryName,
  storePaths: v.array(storePath),
  nfsRoot,
  populateFirmwareCommands: v.string(),
  populateRootCommands: v.string(),
} satisfies Record<keyof NetImageOptions, v.GenericSchema>

const optionsSchema = v.strictObject({
  imageBaseName: v.optional(optionSchemas.imageBaseName),
  rootDirectoryName: v.optional(optionSchemas.rootDirectoryName),
  storePaths: v.optional(optionSchemas.storePaths),
  nfsRoot: v.optional(optionSchemas.nfsRoot),
  populateFirmwareCommands: v.optional(optionSchemas.populateFirmwareCommands),
  populateRootCommands: v.optional(optionSchemas.populateRootCommands),
} satisfies Record<keyof NetImageOptions, v.GenericSchema>)

const hardwareAddress = v.pipe(
  v.string(),
  v.check((text) => parseMac(text) !== undefined, 'it must have six bytes: dc:a6:32:01:02:03'),
)

const configSchema = v.strictObject({
  ...optionsSchema.entries,
  boot: v.optional(v.array(v.picklist(bootWays))),
  deviceTree: v.optional(v.string()),
  firmware: v.optional(v.string()),
  uboot: v.optional(v.string()),
  configTxt: v.optional(v.string()),
  ipxe: v.optional(v.string()),
  uefiStub: v.optional(v.string()),
  machines: v.optional(v.array(hardwareAddress)),
  silence: v.optional(v.array(v.string())),
} satisfies Record<keyof NetImageConfig, v.GenericSchema>)

/** All options, as an image records them. */
export const settledOptionsSchema = v.strictObject(optionSchemas)

/** @param source names the options in errors */
export function parseOptions(input: unknown, source: string): NetImageOptions {
  return withoutUndefined<NetImageOptions>(parseObject(optionsSchema, input, source))
}

/** @param source names the config in errors */
export function parseConfig(input: unknown, source: string): NetImageConfig {
  return withoutUndefined<NetImageConfig>(parseObject(configSchema, input, source))
}

type Schema = typeof optionsSchema | typeof configSchema

function parseObject<S extends Schema>(
  schema: S,
  input: unknown,
  source: string,
): v.InferOutput<S> {
  // The schema would accept arrays and promises, because all options are optional.
  if (!isPlainObject(input)) {
    throw new NetimageError('bad-config', `${source} gives no options but ${inspected(input)}`, {
      details: { actual: inspected(input) },
      hint: 'It must give an object: { nfsRoot: …, storePaths: […], … }',
    })
  }
  const result = v.safeParse(schema, input)
  if (result.success) return result.output
  const [issue] = result.issues
  const name = v.getDotPath(issue) ?? ''
  if (issue.type === 'strict_object') {
    throw new NetimageError('bad-option', `${source}: there is no option ${name}`, {
      details: { field: name },
      hint: `The options are ${Object.keys(schema.entries).join(', ')}.`,
    })
  }
  const why = issue.type === 'regex' || issue.type === 'check' ? issue.message : wanted(issue)
  const actual = show(issue.input)
  throw new NetimageError('bad-option', `${source}: ${name} is ${actual}, but ${why}`, {
    details: { field: name, actual },
  })
}

function wanted(issue: { expected: string | null }): string {
  return `it must be of the type ${(issue.expected ?? 'that is documented').toLowerCase()}`
}

function show(value: unknown): string {
  try {
    const text: string | undefined = JSON.stringify(value)
    return text?.slice(0, maxShown) ?? inspected(value)
  } catch {
    // JSON cannot show big integers and objects that contain themselves.
    return inspected(value)
  }
}

function inspected(value: unknown): string {
  return inspect(value, { breakLength: Infinity, depth: 1 }).slice(0, maxShown)
}

/** The facts that defaults depend on. */
type SystemFacts = Pick<System, 'label' | 'platform' | 'entries' | 'fileSystems'>

/** Adds the defaults of the Nix module, with the system's label and platform. */
export function settleOptions(options: NetImageOptions, system: SystemFacts): SettledOptions {
  const { label, platform } = system
  const imageBaseName = options.imageBaseName ?? 'nixos-net-image'
  const name = `${imageBaseName}-${label}-${platform}`
  if (options.rootDirectoryName === undefined && Buffer.byteLength(name) > maxNameBytes) {
    throw new NetimageError('bad-option', `the default name of the image is too long: ${name}`, {
      details: { field: 'rootDirectoryName', actual: name },
      hint: `Set a rootDirectoryName of at most ${maxNameBytes} bytes (--root-directory-name).`,
    })
  }
  return {
    imageBaseName,
    rootDirectoryName: options.rootDirectoryName ?? name,
    storePaths: options.storePaths ?? [],
    nfsRoot: options.nfsRoot ?? ownNfsRoot(system) ?? `192.168.0.108:/mnt/nfsshare/${name},v3`,
    populateFirmwareCommands: options.populateFirmwareCommands ?? '',
    populateRootCommands: options.populateRootCommands ?? '',
  }
}

/** The NFS root in the system's fstab or kernel line. */
function ownNfsRoot({ entries, fileSystems }: SystemFacts): string | undefined {
  const [main] = entries
  if (!main || findRootMount(main, fileSystems).by === 'initrd') return nfsRootOfFstab(fileSystems)
  const named = kernelParameter(main, 'nfsroot')
  return v.is(nfsRoot, named) ? named : undefined
}

/** The store paths that contain the paths of `storePaths`. */
export function extraRoots(options: NetImageOptions): StorePath[] {
  return (options.storePaths ?? []).flatMap((path) => splitStorePath(path)?.storePath ?? [])
}

/** For `netimage.config.ts`: gives an editor the types of the options. */
export function defineNetImage(config: NetImageConfig): NetImageConfig {
  return config
}
