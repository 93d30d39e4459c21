// Real Nix for tests, in a world of its own.
//
// A world is a chroot store: Nix believes in /nix/store while the files lie below the world's
// directory, so the machine's own /nix (if it has one) is neither read nor written. Nix itself
// builds in a sandbox then, which it can do as root and, where user namespaces are allowed, as
// anybody. Nothing of the machine's Nix configuration reaches a world, and no network is used.

import { execFile } from 'node:child_process'
import { constants } from 'node:fs'
import { access, chmod, copyFile, lstat, mkdir, mkdtemp } from 'node:fs/promises'
import { readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import * as v from 'valibot'

export const compressions = ['xz', 'zstd', 'none', 'bzip2', 'br'] as const
export type Compression = (typeof compressions)[number]

export type NixKey = { secretKeyFile: string; publicKey: string }

export type NixPathInfo = v.InferOutput<typeof pathInfoSchema>

export type BuildSource =
  { file: string; expression?: never } | { expression: string; file?: never }

export type BuildOptions = {
  /** Which attribute of the expression to build; the whole expression when missing. */
  attribute?: string
  /** Strings for the arguments of the expression, where it is a function. */
  strings?: Record<string, string>
}

export type CacheOptions = {
  compression?: Compression
  /** Sign every narinfo with this key. */
  secretKeyFile?: string
}

export type WorldOptions = {
  /** Only paths that one of these keys has signed may be copied into the world. */
  trustedPublicKeys?: string[]
  /** Directories of this machine that builds are shown. */
  sandboxPaths?: string[]
}

export type NixWorld = {
  /** What lies in /nix/store for Nix lies in <storeRoot>/nix/store for everybody else. */
  storeRoot: string
  /** Where a path of the store lies on this machine. */
  realPath: (storePath: string) => string
  /** Each runs one program of Nix and returns what it printed. */
  nix: (args: string[]) => Promise<string>
  nixStore: (args: string[]) => Promise<string>
  /** The store paths that building gives, one for each output asked for. */
  build: (source: BuildSource, options?: BuildOptions) => Promise<string[]>
  /** Add a file or tree as a content-addressed path: of its NAR, or of its flat contents. */
  addToStore: (path: string, options?: { name?: string; flat?: boolean }) => Promise<string>
  /** The paths and everything that they refer to, sorted. */
  closure: (paths: string[]) => Promise<string[]>
  pathInfo: (paths: string[]) => Promise<NixPathInfo[]>
  generateKey: (name: string) => Promise<NixKey>
  sign: (paths: string[], secretKeyFile: string) => Promise<void>
  /** Copy the closure of the paths into a binary cache in a directory. */
  copyToCache: (paths: string[], cacheDirectory: string, options?: CacheOptions) => Promise<void>
  copyFromCache: (paths: string[], cacheDirectory: string) => Promise<void>
  /** Delete the world; store paths are read-only, so a plain `rm` fails for ordinary users. */
  remove: () => Promise<void>
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

/** Make an empty world in a directory, which may exist already: then its store is used again. */
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
    // Only root would ask for build users, and a test machine has none.
    'build-users-group =',
    // Debian's Nix would put a shell of the machine into the sandbox.
    `sandbox-paths = ${sandboxPaths.join(' ')}`,
    // The paths of a world are new at every run: writing them through to the disk gains nothing.
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
        return await runProgram(program, args, { environment, debianPackage: 'nix-bin' })
      } catch (error) {
        // Where several open or close a database at once, Nix gives up instead of waiting.
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
    async remove() {
      await removeReadOnlyTree(directory)
    },
  }
}

/**
 * Put a static busybox into the store as something that derivations can build with: a directory
 * whose `bin` has `sh` and every other applet. It is a source, so that no output refers to it
 * unless it wants to.
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

/** The machine's own static busybox. A dynamic one would not find its loader in a sandbox. */
export async function findStaticBusybox(): Promise<string> {
  const path = await findProgram('busybox')
  const isDynamic = path !== undefined && (await readFile(path)).includes('/ld-linux')
  if (path === undefined || isDynamic) {
    throw new Error('A static busybox is needed: install the Debian package busybox-static.')
  }
  return path
}

export type RunOptions = {
  environment?: NodeJS.ProcessEnv
  /** Which package to name when the program is missing. */
  debianPackage?: string
}

/** Run a program to its end and return what it printed; its complaints become the error. */
export function runProgram(
  program: string,
  args: string[],
  { environment = process.env, debianPackage }: RunOptions = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(
      program,
      args,
      { env: environment, maxBuffer: 1024 * 1024 * 1024 },
      (error, stdout, stderr) => {
        if (error === null) {
          resolve(stdout)
        } else if (debianPackage !== undefined && isMissing(error.code)) {
          const advice = `install the Debian package ${debianPackage}`
          reject(new Error(`The program "${program}" is missing: ${advice}.`))
        } else {
          const command = [program, ...args].join(' ')
          reject(new Error(`"${command}" failed: ${stderr.trim() || error.message}`))
        }
      },
    )
  })
}

// EACCES comes of a directory on PATH that one may not look into, when no other has the program.
function isMissing(code: number | string | null | undefined): boolean {
  return code === 'ENOENT' || code === 'EACCES'
}

async function findProgram(name: string): Promise<string | undefined> {
  for (const directory of (process.env['PATH'] ?? '').split(delimiter)) {
    const path = join(directory, name)
    const isProgram = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    )
    if (isProgram) return path
  }
  return undefined
}

async function removeReadOnlyTree(path: string): Promise<void> {
  await makeDirectoriesWritable(Buffer.from(path))
  await rm(path, { recursive: true, force: true })
}

// Names are handled as bytes: a store may hold some that are not UTF-8.
async function makeDirectoriesWritable(directory: Buffer): Promise<void> {
  const information = await lstat(directory)
  if (!information.isDirectory()) return
  await chmod(directory, 0o700)
  for (const entry of await readdir(directory, { encoding: 'buffer', withFileTypes: true })) {
    if (!entry.isDirectory()) continue
    await makeDirectoriesWritable(Buffer.concat([directory, Buffer.from('/'), entry.name]))
  }
}

function lines(text: string): string[] {
  return text.split('\n').filter((line) => line !== '')
}

/** For directories that a test hands to Nix: relative path to contents. */
export async function writeTree(directory: string, files: Record<string, string | Buffer>) {
  for (const [name, contents] of Object.entries(files)) {
    await mkdir(join(directory, name, '..'), { recursive: true })
    await writeFile(join(directory, name), contents)
  }
}
