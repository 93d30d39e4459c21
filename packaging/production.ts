/** The packages of the lock file that the program needs to run, and a Node for it. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as v from 'valibot'

const repository = join(import.meta.dirname, '..')
/** The workspace that has Node for each kind of computer. */
const runtime = 'dev-runtime'

const lockSchema = v.looseObject({
  packages: v.record(
    v.string(),
    v.looseObject({
      dev: v.optional(v.boolean()),
      devOptional: v.optional(v.boolean()),
      optionalDependencies: v.optional(v.record(v.string(), v.string()), {}),
    }),
  ),
})
const objectSchema = v.record(v.string(), v.unknown())

/**
 * Writes a project that has only these packages. `--omit=dev` of npm is not enough: it would install
 * TypeScript, which a dependency may use, and the bill of materials would lack the packages that a tool
 * for development uses as well.
 */
export function writeProduction(directory: string): void {
  const lock = v.parse(lockSchema, read('package-lock.json'))
  const needed = Object.entries(lock.packages)
    .filter(([, { dev, devOptional }]) => !dev && !devOptional)
    .map(([name, { optionalDependencies, ...entry }]) => {
      // npm would ask the registry for those that the lock file leaves out, which it may not have.
      const locked = Object.entries(optionalDependencies).filter(
        ([each]) => `node_modules/${each}` in lock.packages,
      )
      return [
        name,
        { ...withoutDevelopment(entry), optionalDependencies: Object.fromEntries(locked) },
      ]
    })
  const own = v.parse(objectSchema, read('package.json'))
  mkdirSync(join(directory, runtime), { recursive: true })
  const write = (name: string, content: unknown) =>
    writeFileSync(join(directory, name), JSON.stringify(content))
  write('package.json', withoutDevelopment(own))
  write('package-lock.json', { ...lock, packages: Object.fromEntries(needed) })
  write(`${runtime}/package.json`, read(`${runtime}/package.json`))
}

/** Installs the packages for one kind of computer. @returns the directory with the packages */
export function installProduction(directory: string, cpu: string): string {
  writeProduction(directory)
  const target = ['--os=linux', `--cpu=${cpu}`, '--libc=glibc']
  const quiet = ['--no-audit', '--no-fund', '--prefer-offline', '--loglevel=error']
  execFileSync('npm', ['ci', '--ignore-scripts', ...target, ...quiet], {
    cwd: directory,
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  return join(directory, 'node_modules')
}

function withoutDevelopment(manifest: Readonly<Record<string, unknown>>) {
  return Object.fromEntries(
    Object.entries(manifest).filter(
      ([field]) => field !== 'devDependencies' && field !== 'scripts',
    ),
  )
}

function read(name: string): unknown {
  return JSON.parse(readFileSync(join(repository, name), 'utf8'))
}
