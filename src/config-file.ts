/** Reads a file of a person's settings: TOML, JSON, or a module that exports them. */
import { existsSync, lstatSync, readFileSync, statSync } from 'node:fs'
import { registerHooks } from 'node:module'
import { extname, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

import { fileSystemError, messageOf, NetimageError } from './errors.ts'
import { ownModule } from './own-module.ts'

const modules = ['.ts', '.mts', '.js', '.mjs']
const extensions = [...modules, '.json', '.toml']

/** A kind of such files. */
export interface ConfigKind {
  /** In errors: `config file`. */
  called: string
  /** The name of the file without its extension. */
  stem: string
  /** How a module exports its settings. */
  example: string
  /** The flag that names the file. */
  flag: string
  /** What a file of another user could do. */
  danger: string
}

/**
 * The file of this kind in the current directory, if any.
 *
 * The person did not name it, so another user who can write to the current directory, as everybody can to
 * /tmp, must not be able to decide what they run.
 *
 * @param formats the extensions of files that are read although nobody named them
 * @throws `NetimageError` `bad-config` if the file belongs to another user
 */
export function findConfigFile(
  { called, stem, flag, danger }: ConfigKind,
  formats: readonly string[] = extensions,
): string | undefined {
  const found = formats.map((format) => stem + format).find((name) => existsSync(name))
  if (found === undefined) return undefined
  const owners = [lstatSync(found).uid, statSync(found).uid]
  const stranger = owners.find((uid) => !isTrustedOwner(uid))
  if (stranger === undefined) return found
  const whose = `it belongs to another user (uid ${stranger})`
  throw new NetimageError('bad-config', `${resolve(found)} is not read: ${whose}`, {
    details: { file: resolve(found) },
    hint: `${danger} If you trust this ${called}, name it: ${flag} ./${found}`,
  })
}

/** This user, root, and the person who became root by sudo. */
function isTrustedOwner(uid: number): boolean {
  const user = process.geteuid?.()
  if (user === undefined || uid === user || uid === 0) return true
  return user === 0 && String(uid) === process.env['SUDO_UID']
}

/** @throws `NetimageError` `bad-config`, `file-system` */
export async function readConfigFile(
  path: string,
  { called, stem, example }: ConfigKind,
): Promise<unknown> {
  const extension = extname(path)
  try {
    const text = readFileSync(path, 'utf8')
    if (modules.includes(extension)) return await importConfig(path, example)
    if (extension === '.json') return JSON.parse(text)
    if (extension === '.toml') return (await import('smol-toml')).parse(text)
  } catch (error) {
    if (error instanceof Error && 'syscall' in error) {
      throw fileSystemError(`could not read the ${called} ${path}`, error, {
        details: { file: path },
      })
    }
    throw new NetimageError('bad-config', `the ${called} ${path} failed: ${messageOf(error)}`, {
      cause: error,
      details: { file: path },
    })
  }
  throw new NetimageError('bad-config', `the ${called} ${path} has an unknown extension`, {
    details: { file: path },
    hint: `Name the file like one of these: ${extensions.map((each) => stem + each).join(', ')}.`,
  })
}

async function importConfig(path: string, example: string): Promise<unknown> {
  // A config can `import … from 'netimage'` even if netimage is not installed beside the config.
  const ourselves = ownModule('index').href
  const hooks = registerHooks({
    resolve: (specifier, context, next) =>
      specifier === 'netimage' ? { url: ourselves, shortCircuit: true } : next(specifier, context),
  })
  try {
    const module: { default?: unknown } = await import(pathToFileURL(path).href)
    if (module.default === undefined) {
      throw new Error(`it has no default export; write \`${example}\``)
    }
    return module.default
  } finally {
    hooks.deregister()
  }
}
