/** The program as npm gets it, and with all that it needs on one kind of computer. */
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as v from 'valibot'
import { version } from '../src/version.ts'
import { levelModes } from './archive.ts'
import { describeProgram } from './commands.ts'
import { bashCompletion, fishCompletion, zshCompletion } from './completions.ts'
import { writeManual } from './manual.ts'
import { installProduction } from './production.ts'
import type { ReleaseSettings } from './settings.ts'

const repository = join(import.meta.dirname, '..')
const files = join(import.meta.dirname, 'files')

/** A kind of computer, as Node calls it. */
export type Architecture = 'x64' | 'arm64'

const packedSchema = v.tuple([v.object({ filename: v.string() })])

const documents = ['docs', 'README.md', 'CHANGELOG.md', 'SECURITY.md', 'LICENSE']

/**
 * Compiles the program and packs it for npm.
 *
 * @returns the path of the package
 */
export function packForNpm({ work, output }: ReleaseSettings): string {
  const folder = join(work, 'npm')
  for (const name of ['package.json', 'native', ...documents]) {
    cpSync(join(repository, name), join(folder, name), { recursive: true })
  }
  // Not into the `dist` of the repository, which may have files of modules that are gone.
  const project = ['--project', join(repository, 'tsconfig.build.json')]
  const compiler = join(repository, 'node_modules/.bin/tsc')
  const code = join(folder, 'dist')
  execFileSync(compiler, [...project, '--outDir', code], { stdio: 'inherit' })
  execFileSync(process.execPath, [join(repository, 'scripts/copy-assets.ts'), code])
  // npm keeps the modes.
  levelModes(folder)
  const args = ['pack', '--json', '--ignore-scripts', `--pack-destination=${output}`]
  const packed: unknown = JSON.parse(execFileSync('npm', args, { cwd: folder, encoding: 'utf8' }))
  const [{ filename }] = v.parse(packedSchema, packed)
  return join(output, filename)
}

/**
 * The packed program with its dependencies, its own Node, its unit, its manual and its completions.
 *
 * @returns a directory with `bin`, `lib` and `share`, which works below any prefix
 */
export async function makeProgram(
  npmPackage: string,
  architecture: Architecture,
  { work, epoch }: ReleaseSettings,
): Promise<string> {
  const tree = join(work, `netimage-${version}-linux-${architecture}`)
  const [library, shared] = [join(tree, 'lib/netimage'), join(tree, 'share')]
  const documentation = join(shared, 'doc/netimage')
  for (const folder of [join(tree, 'bin'), library, documentation]) {
    mkdirSync(folder, { recursive: true })
  }
  const from = [`--file=${npmPackage}`, '--strip-components=1', `--directory=${library}`]
  execFileSync('tar', ['--extract', ...from])
  for (const name of documents) renameSync(join(library, name), join(documentation, name))
  takeDependencies(join(work, `production-${architecture}`), architecture, library, documentation)
  const unit = 'netimage.service'
  cpSync(join(files, 'netimage'), join(tree, 'bin/netimage'))
  cpSync(join(files, unit), join(tree, 'lib/systemd/system', unit))
  await writeHelp(shared, epoch)
  levelModes(tree)
  return tree
}

function takeDependencies(
  work: string,
  architecture: Architecture,
  library: string,
  documentation: string,
): void {
  const modules = installProduction(work, architecture)
  const node = join(modules, `node-linux-${architecture}`)
  renameSync(join(node, 'bin/node'), join(library, 'node'))
  renameSync(join(node, 'LICENSE'), join(documentation, 'LICENSE.node'))
  rmSync(node, { recursive: true })
  // Notes of npm, and the link to the workspace.
  for (const name of ['.bin', '.package-lock.json', 'netimage-dev-runtime']) {
    rmSync(join(modules, name), { recursive: true, force: true })
  }
  renameSync(modules, join(library, 'node_modules'))
  // The addon is for this kind of computer only.
  const other = architecture === 'x64' ? 'arm64' : 'x64'
  rmSync(join(library, `native/linux-${other}.node`), { force: true })
}

async function writeHelp(shared: string, epoch: number): Promise<void> {
  const program = await describeProgram()
  writeManual(program, join(shared, 'man/man1'), epoch)
  const completions = {
    'bash-completion/completions/netimage': bashCompletion(program),
    'zsh/site-functions/_netimage': zshCompletion(program),
    'fish/vendor_completions.d/netimage.fish': fishCompletion(program),
  }
  for (const [name, text] of Object.entries(completions)) {
    mkdirSync(join(shared, name, '..'), { recursive: true })
    writeFileSync(join(shared, name), text)
  }
}
