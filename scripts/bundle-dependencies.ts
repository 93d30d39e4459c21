/**
 * Bundles the dependencies into `nix/dependencies`, one module each. So Nix can build the program
 * without a network, and the repository needs no download addresses.
 *
 *     node scripts/bundle-dependencies.ts [directory]
 *
 * The result is always the same; a test compares the committed files with it.
 */
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { rolldown } from 'rolldown'
import * as v from 'valibot'

const root = dirname(import.meta.dirname)
const target = resolve(process.argv[2] ?? join(root, 'nix/dependencies'))

const packageSchema = v.object({
  version: v.string(),
  license: v.optional(v.string()),
  dependencies: v.optional(v.record(v.string(), v.string()), {}),
})

/** A native module, which cannot be bundled. Without it netimage uses the program `xz`. */
const native = '@napi-rs/lzma'

const { dependencies } = await readPackage(join(root, 'package.json'))
const names = Object.keys(dependencies).filter((name) => name !== native)
await rm(target, { recursive: true, force: true })
for (const name of names) await bundle(name)

async function bundle(name: string): Promise<void> {
  const directory = packageDirectory(name)
  const { version, license } = await readPackage(join(directory, 'package.json'))
  // The exports of a CommonJS module are known only after it was loaded.
  const exported: object = await import(name)
  const identifiers = Object.keys(exported).filter((key) => /^[A-Za-z_$][\w$]*$/.test(key))
  const entry = '\0entry'
  const build = await rolldown({
    cwd: root,
    input: entry,
    platform: 'node',
    external: names.filter((other) => other !== name),
    plugins: [
      {
        name: 'entry',
        resolveId: (id) => (id === entry ? id : undefined),
        load: (id) =>
          id === entry ? `export { ${identifiers.join(', ')} } from '${name}'` : undefined,
      },
    ],
  })
  const { output } = await build.generate({ format: 'esm', codeSplitting: false })
  await build.close()
  const [{ code }] = output
  const folder = join(target, name)
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, 'index.js'), code)
  const description = { name, version, license, type: 'module', exports: './index.js' }
  await writeFile(join(folder, 'package.json'), `${JSON.stringify(description, undefined, 2)}\n`)
  for (const file of await readdir(directory)) {
    if (/^licen[cs]e/i.test(file)) await copyFile(join(directory, file), join(folder, 'LICENSE'))
  }
}

function packageDirectory(name: string): string {
  const file = fileURLToPath(import.meta.resolve(name))
  const folder = `/node_modules/${name}/`
  return file.slice(0, file.lastIndexOf(folder) + folder.length)
}

async function readPackage(file: string) {
  return v.parse(packageSchema, JSON.parse(await readFile(file, 'utf8')))
}
