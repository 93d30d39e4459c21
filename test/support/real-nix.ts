// Real Nix for tests, in a world of its own.
//
// A world is a chroot store: Nix sees /nix/store, but the files are below the world's directory. So
// Nix neither reads nor writes the machine's own /nix. Nix builds in a sandbox. For that it must
// run as root, or the machine must allow user namespaces. A world ignores the machine's Nix
// configuration and uses no network.

import { execFile } from 'node:child_process'
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import * as v from 'valibot'
import { removeTree } from '../../src/remove-tree.ts'
import { findProgram, missingProgram } from './packages.ts'

export const compressions = ['xz', 'zstd', 'none', 'bzip2', 'br'] as const
export type Compression = (typeof compressions)[number]

export type NixKey = { secretKeyFile: string; publicKey: string }

export type NixPathInfo = v.InferOutput<typeof pathInfoSchema>

export type BuildSource =
  { file: string; expression?: never } | { expression: string; file?: never }

export type BuildOptions = {
  /** The attribute of the expression to build. Default: the whole expression. */
  attribute?: string
  /** Strings for the arguments of the expression, if it is a function. */
  strings?: Record<string, string>
}

export type CacheOptions = {
  compression?: Compression
  /** Sign every narinfo with this key. */
  secretKeyFile?: string
}

export type WorldOptions = {
  /** The world only copies paths that are signed by one of these keys. */
  trustedPublicKeys?: string[]
  /** Directories of this machine that builds can see. */
  sandboxPaths?: string[]
}

export type NixWorld = {
  /** Nix sees <storeRoot>/nix/store as /nix/store. */
  storeRoot: string
  /** The real path of a store path on this machine. */
  realPath: (storePath: string) => string
  /** Each function runs one program of Nix and returns its output. */
  nix: (args: string[]) => Promise<string>
  nixStore: (args: string[]) => Promise<string>
  /** Builds and returns the store paths, one for each requested output. */
  build: (source: BuildSource, options?: BuildOptions) => Promise<string[]>
  /** Adds a file or tree as a content-addressed path, by its NAR or by its flat content. */
  addToStore: (path: string, options?: { name?: string; flat?: boolean }) => Promise<string>
  /** The closure of the paths, sorted. */
  closure: (paths: string[]) => Promise<string[]>
  pathInfo: (paths: string[]) => Promise<NixPathInfo[]>
  generateKey: (name: string) => Promise<NixKey>
  sign: (paths: string[], secretKeyFile: string) => Promise<void>
  /** Copy the closure of the paths into a binary cache in a directory. */
  copyToCache: (paths: string[], cacheDirectory: string, options?: CacheOptions) => Promise<void>
  copyFromCache: (paths: string[], cacheDirectory: string) => Promise<void>
  /** Delete the world; store paths are read-only, so a plain `rm` fails for ordinary users. */
  remove: () => void
}

const pathInfoSchema = v.object({
  path: v.string(),
  narHash: v.string(),
  narSize: v.number(),
  references: v.array(v.string()),
  deriver: v.nullish(v.string()),
  signatures: v.optional(v.array(v.string()), []),
  ca: v.nullish(v.string()),
})

// Nix 2.8 prints a list; since 2.19 it is an object whose keys are the paths.
const pathInfosSchema = v.pipe(
  v.union([v.array(v.unknown()), v.record(v.string(), v.record(v.string(), v.unknown()))]),
  v.transform((infos) =>
    Array.isArray(infos)
      ? infos
      : Object.entries(infos).map(([path, info]) => Object.assign(info, { path })),
  ),
  v.array(pathInfoSchema),
)

/** Makes a world in a directory. If the directory already has a store, that store is used again. */
export async function createNixWorld(
  directory: string,
  { trustedPublicKeys, sandboxPaths = [] }: WorldOptions = {},
): Promise<NixWorld> {
  const storeRoot = join(directory, 'store')
  const home = join(directory, 'home')
  const configuration = join(directory, 'conf')
  const temporary = join(directory, 'tmp')
  for (const path of [storeRoot, home, configuration, temporary]) {
    await mkdir(path, { recursive: true })
  }

  const settings = [
    `store = ${storeRoot}`,
    'experimental-features = nix-command flakes',
    'substituters =',
    // As root, Nix would need build users, but a test machine has none.
    'build-users-group =',
    // Debian's Nix would put a shell of the machine into the sandbox.
    `sandbox-paths = ${sandboxPaths.join(' ')}`,
    // No need to sync: each run makes new paths.
    'fsync-metadata = false',
    `require-sigs = ${trustedPublicKeys !== undefined}`,
    `trusted-public-keys = ${trustedPublicKeys?.join(' ') ?? ''}`,
  ]
  const environment = {
    PATH: process.env['PATH'] ?? '',
    HOME: home,
    TMPDIR: temporary,
    NIX_CONF_DIR: configuration,
    NIX_USER_CONF_FILES: '',
    NIX_CONFIG: settings.join('\n'),
  }
  const run = async (program: string, args: string[]) => {
    for (let attempt = 1; ; attempt++) {
      try {
        return await runProgram(program, args, { environment })
      } catch (error) {
        // If several programs open or close the database at once, Nix fails instead of waiting.
        const isBusy = error instanceof Error && /SQLite database '.*' is busy/.test(error.message)
        if (!isBusy || attempt === busyAttempts) throw error
        await sleep(attempt * 500)
      }
    }
  }

  const nix = (args: string[]) => run('nix', args)
  const nixStore = (args: string[]) => run('nix-store', args)

  return {
    storeRoot,
    realPath: (storePath) => join(storeRoot, storePath),
    nix,
    nixStore,
    async build(source, { attribute, strings = {} } = {}) {
      const what = source.file === undefined ? ['--expr', source.expression] : [source.file]
      const attributes = attribute === undefined ? [] : ['--attr', attribute]
      const passed = Object.entries(strings).flatMap(([name, text]) => ['--argstr', name, text])
      const args = ['--no-out-link', '--quiet', ...what, ...attributes, ...passed]
      return lines(await run('nix-build', args))
    },
    async addToStore(path, { name, flat = false } = {}) {
      const named = name === undefined ? [] : ['--name', name]
      return (await nix(['store', flat ? 'add-file' : 'add-path', ...named, path])).trim()
    },
    async closure(paths) {
      return lines(await nixStore(['--query', '--requisites', ...paths])).toSorted()
    },
    async pathInfo(paths) {
      return v.parse(pathInfosSchema, JSON.parse(await nix(['path-info', '--json', ...paths])))
    },
    async generateKey(name) {
      const keys = await mkdtemp(join(directory, 'key-'))
      const secretKeyFile = join(keys, 'secret')
      const publicKeyFile = join(keys, 'public')
      await nixStore(['--generate-binary-cache-key', name, secretKeyFile, publicKeyFile])
      return { secretKeyFile, publicKey: (await readFile(publicKeyFile, 'utf8')).trim() }
    },
    async sign(paths, secretKeyFile) {
      await nix(['store', 'sign', '--key-file', secretKeyFile, ...paths])
    },
    async copyToCache(paths, cacheDirectory, { compression = 'xz', secretKeyFile } = {}) {
      const parameters = [`compression=${compression}`]
      if (secretKeyFile !== undefined) parameters.push(`secret-key=${secretKeyFile}`)
      await nix(['copy', '--to', `file://${cacheDirectory}?${parameters.join('&')}`, ...paths])
    },
    async copyFromCache(paths, cacheDirectory) {
      await nix(['copy', '--from', `file://${cacheDirectory}`, ...paths])
    },
    remove: () => removeTree(directory),
  }
}

/**
 * Puts a static busybox into the store, so that derivations can build with it: a directory with
 * `sh` and all other applets in `bin`. It is a source, so outputs do not refer to it by accident.
 */
export async function addBuilderShell(world: NixWorld, busyboxFile: string): Promise<string> {
  const directory = await mkdtemp(join(world.storeRoot, 'builder-shell-'))
  try {
    const bin = join(directory, 'bin')
    await mkdir(bin)
    await copyFile(busyboxFile, join(bin, 'busybox'))
    await chmod(join(bin, 'busybox'), 0o755)
    const applets = lines(await runProgram(busyboxFile, ['--list']))
    for (const applet of applets) {
      if (applet !== 'busybox') await symlink('busybox', join(bin, applet))
    }
    return await world.addToStore(directory, { name: 'builder-shell' })
  } finally {
    await rm(directory, { recursive: true })
  }
}

const busyAttempts = 6

/** The machine's static busybox. A dynamic one could not find its loader in a sandbox. */
export async function findStaticBusybox(): Promise<string> {
  const path = findProgram('busybox')
  if (!(await readFile(path)).includes('/ld-linux')) return path
  throw new Error(`${path} is not static: install the Debian package busybox-static.`)
}

export type RunOptions = {
  environment?: NodeJS.ProcessEnv
}

/** Runs a program and returns its output. @throws with the text from its stderr */
export function runProgram(
  program: string,
  args: string[],
  { environment = process.env }: RunOptions = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(
      program,
      args,
      { env: environment, maxBuffer: 1024 * 1024 * 1024 },
      (error, stdout, stderr) => {
        if (error === null) {
          resolve(stdout)
        } else if (!program.includes('/') && isMissing(error.code)) {
          reject(missingProgram(program))
        } else {
          const command = [program, ...args].join(' ')
          reject(new Error(`"${command}" failed: ${stderr.trim() || error.message}`))
        }
      },
    )
  })
}

// EACCES means that no directory on PATH has the program and that one of them is not readable.
function isMissing(code: number | string | null | undefined): boolean {
  return code === 'ENOENT' || code === 'EACCES'
}

function lines(text: string): string[] {
  return text.split('\n').filter((line) => line !== '')
}

/** Writes files for Nix: each relative path with its content. */
export async function writeTree(directory: string, files: Record<string, string | Buffer>) {
  for (const [name, contents] of Object.entries(files)) {
    await mkdir(join(directory, name, '..'), { recursive: true })
    await writeFile(join(directory, name), contents)
  }
}
