/** Reads the options of a net image from a config file. */
import { existsSync, lstatSync, readFileSync, statSync } from 'node:fs'
import { registerHooks } from 'node:module'
import { extname, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

import { knownRules } from '../check/silence.ts'
import { fileSystemError, messageOf, NetimageError } from '../errors.ts'
import { ownModule } from '../own-module.ts'
import type { BuildRequest } from './request.ts'
import { parseConfig, type NetImageConfig } from './options.ts'
import { withoutUndefined } from '../without-undefined.ts'

const modules = ['.ts', '.mts', '.js', '.mjs']
const names = [...modules, '.json', '.toml'].map((extension) => `netimage.config${extension}`)

/** @param file named by the person; else the config file of the current directory, if any */
export async function loadConfig(file: string | undefined): Promise<NetImageConfig> {
  const found = file ?? findConfig()
  if (found === undefined) return {}
  return parseConfig(await readConfig(resolve(found)), found)
}

/**
 * A config runs code. The person did not name this one, so another user who can write to the
 * current directory, as everybody can to /tmp, must not be able to decide what they run.
 */
function findConfig(): string | undefined {
  const found = names.find((name) => existsSync(name))
  if (found === undefined) return undefined
  const owners = [lstatSync(found).uid, statSync(found).uid]
  const stranger = owners.find((uid) => !isTrustedOwner(uid))
  if (stranger === undefined) return found
  const whose = `it belongs to another user (uid ${stranger})`
  throw new NetimageError('bad-config', `${resolve(found)} is not read: ${whose}`, {
    details: { file: resolve(found) },
    hint: `A config runs commands as you. If you trust this one, name it: --config ./${found}`,
  })
}

/** This user, root, and the person who became root by sudo. */
function isTrustedOwner(uid: number): boolean {
  const user = process.geteuid?.()
  if (user === undefined || uid === user || uid === 0) return true
  return user === 0 && String(uid) === process.env['SUDO_UID']
}

/** The part of a build's request that a config decides. */
export type ConfiguredRequest = Pick<BuildRequest, 'options' | 'boot' | 'bootSettings' | 'silenced'>

/** @param source names the config in errors */
export function requestOf(config: NetImageConfig, source: string): ConfiguredRequest {
  const { boot, silence, ...rest } = config
  const { deviceTree, firmware, uboot, configTxt, ipxe, uefiStub, machines, ...options } = rest
  return withoutUndefined<ConfiguredRequest>({
    options,
    bootSettings: { deviceTree, firmware, uboot, configTxt, ipxe, uefiStub, machines },
    boot,
    silenced: silence && knownRules(silence, source),
  })
}

async function readConfig(path: string): Promise<unknown> {
  const extension = extname(path)
  try {
    const text = readFileSync(path, 'utf8')
    if (modules.includes(extension)) return await importConfig(path)
    if (extension === '.json') return JSON.parse(text)
    if (extension === '.toml') return (await import('smol-toml')).parse(text)
  } catch (error) {
    if (error instanceof Error && 'syscall' in error) {
      throw fileSystemError(`could not read the config file ${path}`, error, {
        details: { file: path },
      })
    }
    throw new NetimageError('bad-config', `the config file ${path} failed: ${messageOf(error)}`, {
      cause: error,
      details: { file: path },
    })
  }
  throw new NetimageError('bad-config', `the config file ${path} has an unknown extension`, {
    details: { file: path },
    hint: `Name the file like one of these: ${names.join(', ')}.`,
  })
}

async function importConfig(path: string): Promise<unknown> {
  // A config can `import … from 'netimage'` even if netimage is not installed beside the config.
  const ourselves = ownModule('index').href
  const hooks = registerHooks({
    resolve: (specifier, context, next) =>
      specifier === 'netimage' ? { url: ourselves, shortCircuit: true } : next(specifier, context),
  })
  try {
    const module: { default?: unknown } = await import(pathToFileURL(path).href)
    if (module.default === undefined) {
      throw new Error('it has no default export; write `export default defineNetImage({…})`')
    }
    return module.default
  } finally {
    hooks.deregister()
  }
}
