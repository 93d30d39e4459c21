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
import { nfsRootOfFstab, parseNfsRoot } from '../nixos/nfs-root.ts'
import type { System } from '../nixos/system.ts'
import { withoutUndefined } from '../without-undefined.ts'

/** What a person may set; what is missing has the module's default. */
export interface NetImageOptions {
  /** First part of the default names. Default: `nixos-net-image`. */
  imageBaseName?: string
  /** Name of the root tree. Default: `<imageBaseName>-<label>-<system>`. */
  rootDirectoryName?: string
  /** More store paths for the root tree, with their closures; the system is always in it. */
  storePaths?: string[]
  /**
   * Where the machine mounts its root from, as the kernel's `nfsroot=` has it. Default: what the
   * system's fstab or kernel line says; else
   * `192.168.0.108:/mnt/nfsshare/<imageBaseName>-<label>-<system>,v3`.
   */
  nfsRoot?: string
  /** Shell commands; what they make in their working directory becomes the boot tree. */
  populateFirmwareCommands?: string
  /** Shell commands; what they make in `./files` becomes part of the root tree. */
  populateRootCommands?: string
}

/** What a config file may set, and with it the NixOS module: all that `build` is told of an image. */
export interface NetImageConfig extends NetImageOptions {
  /** Ways of booting that the boot tree is made for. Default: what the system calls for. */
  boot?: BootWay[]
  /** The device tree that U-Boot is to load, as in `rockchip/rk3399-rockpro64.dtb`. */
  deviceTree?: string
  /** A directory with the Raspberry Pi’s firmware. */
  firmware?: string
  /** Lines for the end of the Raspberry Pi’s `config.txt`. */
  configTxt?: string
  /** A directory with iPXE’s loaders. */
  ipxe?: string
  /** systemd’s stub, where the system’s closure has none. */
  uefiStub?: string
  /** Hardware addresses of machines with a `pxelinux.cfg` of their own. */
  machines?: string[]
  /** Rules of `check` that are left out. */
  silence?: string[]
}

/** The options as the manifest records them. */
export type SettledOptions = Required<NetImageOptions>

/** Characters of a wrong value that an error repeats. */
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
  v.regex(/^[^\s,]*$/, 'it must hold no blanks and no commas: it becomes part of the kernel line'),
)

const rootDirectoryName = v.pipe(
  directoryName,
  v.check((text) => text !== 'boot', 'it must not be the name that the boot tree has'),
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
  configTxt: v.optional(v.string()),
  ipxe: v.optional(v.string()),
  uefiStub: v.optional(v.string()),
  machines: v.optional(v.array(hardwareAddress)),
  silence: v.optional(v.array(v.string())),
} satisfies Record<keyof NetImageConfig, v.GenericSchema>)

/** All options, as an image records them. */
export const settledOptionsSchema = v.strictObject(optionSchemas)

/** @param source where the options are from, for the error */
export function parseOptions(input: unknown, source: string): NetImageOptions {
  return withoutUndefined<NetImageOptions>(parseObject(optionsSchema, input, source))
}

/** @param source where it is from, for the error */
export function parseConfig(input: unknown, source: string): NetImageConfig {
  return withoutUndefined<NetImageConfig>(parseObject(configSchema, input, source))
}

type Schema = typeof optionsSchema | typeof configSchema

function parseObject<S extends Schema>(
  schema: S,
  input: unknown,
  source: string,
): v.InferOutput<S> {
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

/** An array has no option that could be wrong, nor has a promise that was not awaited. */
function isPlainObject(input: unknown): boolean {
  if (typeof input !== 'object' || input === null) return false
  const prototype: unknown = Object.getPrototypeOf(input)
  return prototype === Object.prototype || prototype === null
}

function show(value: unknown): string {
  try {
    const text: string | undefined = JSON.stringify(value)
    return text?.slice(0, maxShown) ?? inspected(value)
  } catch {
    // JSON has no big numbers and no circles.
    return inspected(value)
  }
}

function inspected(value: unknown): string {
  return inspect(value, { breakLength: Infinity, depth: 1 }).slice(0, maxShown)
}

/** What defaults follow from. */
type SystemFacts = Pick<System, 'label' | 'platform' | 'entries' | 'fileSystems'>

/** The defaults are the module's, with label and platform read from the system. */
export function settleOptions(options: NetImageOptions, system: SystemFacts): SettledOptions {
  const { label, platform } = system
  const imageBaseName = options.imageBaseName ?? 'nixos-net-image'
  const name = `${imageBaseName}-${label}-${platform}`
  if (options.rootDirectoryName === undefined && Buffer.byteLength(name) > maxNameBytes) {
    throw new NetimageError('bad-option', `the image cannot be called ${name}, which is too long`, {
      details: { field: 'rootDirectoryName', actual: name },
      hint: `Give it a rootDirectoryName of at most ${maxNameBytes} bytes (--root-directory-name).`,
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

/** What the system itself says of its root. */
function ownNfsRoot({ entries, fileSystems }: SystemFacts): string | undefined {
  const [main] = entries
  if (!main || findRootMount(main, fileSystems).by === 'initrd') return nfsRootOfFstab(fileSystems)
  const named = kernelParameter(main, 'nfsroot')
  return v.is(nfsRoot, named) ? named : undefined
}

/** The store paths that `storePaths` lie in. */
export function extraRoots(options: NetImageOptions): StorePath[] {
  return (options.storePaths ?? []).flatMap((path) => splitStorePath(path)?.storePath ?? [])
}

/** For `netimage.config.ts`: gives an editor the types of the options. */
export function defineNetImage(config: NetImageConfig): NetImageConfig {
  return config
}
