/** Reads the parts of an initrd that matter to a machine whose root is on the network. */
import { createReadStream } from 'node:fs'
import { posix } from 'node:path'

import { fileSystemError, NetimageError } from '../../errors.ts'
import type { Chunks } from '../../nix/byte-reader.ts'
import { moduleName, parseBuiltinModules, type KernelModules } from '../kernel-modules.ts'
import { findSecret, isHostKeyName, type SecretKind } from '../../secrets.ts'
import { brokenInitrd } from './broken.ts'
import { UnknownCompression, type InitrdCompression } from './compressed.ts'
import type { InitrdEntry } from './cpio.ts'
import { readInitrd } from './entries.ts'
import { followSymlinks } from './links.ts'

export interface InitrdFacts {
  /** Undefined if the whole initrd was read. Otherwise the facts below may be incomplete. */
  unread: { why: string; compression?: InitrdCompression } | undefined
  init: Init
  modules: KernelModules
  /** The content of `modules.builtin`; undefined if the initrd has no such file. */
  builtin: KernelModules | undefined
  /** Programs by their names, each with one of its paths. */
  programs: ReadonlyMap<string, string>
  /** Names of programs in `/sbin`, directly or by links. */
  sbin: ReadonlySet<string>
  /** Names of files in folders with the name `etc`. */
  etcFiles: ReadonlySet<string>
  /** networkd's settings of interfaces: the text of each `*.network`, by path. */
  networks: ReadonlyMap<string, string>
  /** systemd's mounts besides the fstab: the text of each `*.mount`, by path. */
  mounts: ReadonlyMap<string, string>
  /** Whether a script or a unit sets the name of the NFS client, which is the host's by default. */
  namesNfsClient: boolean
  /** Files of `boot.initrd.secrets` in the initrd, by their names in stage 1. */
  addedSecrets: ReadonlySet<string>
  secrets: readonly InitrdSecret[]
}

/** The first program: systemd, NixOS's script, or something else. */
export type Init =
  { kind: 'systemd' } | { kind: 'scripted'; script: string } | { kind: 'other' | 'none' }

export interface InitrdSecret {
  path: string
  kind: SecretKind
  isHostKey: boolean
}

/** Scripts, unit files and keys are smaller. */
const maxContentBytes = 256 * 1024
/** Texts are held until the end of the initrd, since a link to a text may follow later. */
const maxHeldBytes = 16 << 20
const maxNameBytes = 16 << 20

/** The kernel's parameter, and the file that replaces it since Linux 5.19. */
const nfsClientName = /nfs4_unique_id|nfs_client\/identifier/

/** systemd's stage 1 and NixOS's script keep secrets here, and copy them to their places. */
const addedSecret = /^\/(?:\.initrd-secrets|nix\/store\/[^/]*-extra-utils\/secrets)\/(.+)$/

/** Words of NixOS's stage 1 script, and of replacements for it. */
const scriptedMarks = /stage-1-init|fsinfo|\/mnt-root/i

export async function readInitrdFile(file: string): Promise<InitrdFacts> {
  try {
    return await readInitrdFacts(createReadStream(file, { highWaterMark: 256 * 1024 }))
  } catch (error) {
    throw fileSystemError(`could not read the initrd ${file}`, error)
  }
}

/** If the initrd is broken, returns the facts up to there with `unread`, and throws no error. */
export async function readInitrdFacts(input: Chunks): Promise<InitrdFacts> {
  const symlinks = new Map<string, string>()
  const scripts = new Map<string, string>()
  const modules = new Map<string, string>()
  const programs = new Map<string, string>()
  const networks = new Map<string, string>()
  const mounts = new Map<string, string>()
  const addedSecrets = new Set<string>()
  const secrets: InitrdSecret[] = []
  const files = new Set<string>()
  let builtin: KernelModules | undefined
  let namesNfsClient = false
  let [nameBytes, heldBytes] = [0, 0]

  function addEntry(entry: InitrdEntry): void {
    nameBytes += entry.name.length + (entry.target?.length ?? 0)
    if (nameBytes > maxNameBytes)
      throw brokenInitrd('the names of its files are too long in total', { field: 'size' })
    const path = posix.join('/', entry.name.toString())
    const name = posix.basename(path)
    if (entry.target) symlinks.set(path, entry.target.toString())
    if (entry.type === 'file') files.add(path)
    if (isProgramPath(path)) programs.set(name, path)
    const [, secret] = addedSecret.exec(path) ?? []
    if (secret !== undefined) addedSecrets.add(secret)
    const module = moduleName(name)
    if (module !== undefined && entry.type === 'file') modules.set(module, path)
    if (entry.content) addContent(path, name, entry.content)
  }

  function addContent(path: string, name: string, content: Buffer): void {
    if (name === 'modules.builtin') builtin = parseBuiltinModules(content.toString())
    const isScript = content.toString('latin1', 0, 2) === '#!'
    const texts = isScript ? scripts : heldTexts(name)
    if (texts) heldBytes += content.length
    if (heldBytes <= maxHeldBytes) texts?.set(path, content.toString())
    if (isScript || name.endsWith('.service')) {
      namesNfsClient ||= nfsClientName.test(content.toString('latin1'))
    }
    const secret = findSecret(name, content)
    if (secret) secrets.push({ path, kind: secret, isHostKey: isHostKeyName(name) })
  }

  function heldTexts(name: string): Map<string, string> | undefined {
    if (name.endsWith('.network')) return networks
    return name.endsWith('.mount') ? mounts : undefined
  }

  const unread = await readAll(input, addEntry)
  const isFile = (path: string) => files.has(followSymlinks(symlinks, path) ?? '')
  return {
    unread,
    init: findInit(symlinks, scripts, files),
    modules,
    builtin,
    programs,
    sbin: new Set([...programs.keys()].filter((name) => isFile(`/sbin/${name}`))),
    etcFiles: new Set([...files].filter(isInEtc).map((path) => posix.basename(path))),
    networks,
    mounts,
    namesNfsClient,
    addedSecrets,
    secrets,
  }
}

/** Includes the `etc` of a store path: programs from Nix read it, and links lead there. */
function isInEtc(path: string): boolean {
  return posix.basename(posix.dirname(path)) === 'etc'
}

async function readAll(
  input: Chunks,
  add: (entry: InitrdEntry) => void,
): Promise<InitrdFacts['unread']> {
  try {
    for await (const entry of readInitrd(input, ({ size }) => size <= maxContentBytes)) add(entry)
  } catch (error) {
    if (error instanceof UnknownCompression) {
      return { why: error.message, compression: error.compression }
    }
    if (error instanceof NetimageError && error.code === 'bad-system') return { why: error.message }
    throw error
  }
}

function isProgramPath(path: string): boolean {
  return /\/(?:s?bin|libexec|lib\/systemd)\/[^/]+$/.test(path)
}

function findInit(
  symlinks: ReadonlyMap<string, string>,
  scripts: ReadonlyMap<string, string>,
  files: ReadonlySet<string>,
): Init {
  const path = followSymlinks(symlinks, '/init')
  if (path === undefined || !files.has(path)) return { kind: 'none' }
  if (posix.basename(path) === 'systemd') return { kind: 'systemd' }
  const script = scripts.get(path)
  if (script !== undefined && scriptedMarks.test(script)) return { kind: 'scripted', script }
  return { kind: 'other' }
}
