/** Evaluates and builds the hosts of flakes with Nix. */
import { mkdtempSync, readlinkSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as v from 'valibot'

import { NetimageError } from '../errors.ts'
import { storeDir, toStorePath, type StorePath } from '../nix/store-path.ts'
import { runProgram } from '../run-program.ts'

export interface FlakeHost {
  /** The person's text: `.#pi`. */
  reference: string
  /** The flake reference of its configuration: `.#nixosConfigurations.pi.config`. */
  configuration: string
}

export interface BuiltHost {
  toplevel: StorePath
  /**
   * The settings of netimage's NixOS module, as JSON. Undefined if the host does not use the
   * module.
   */
  settings: string | undefined
}

/** @returns undefined if the fragment does not name a host */
export function parseFlakeHost(reference: string): FlakeHost | undefined {
  const [, flake, host] = /^([^#]*)#([A-Za-z0-9_][A-Za-z0-9_'-]*)$/.exec(reference) ?? []
  if (flake === undefined || host === undefined) return undefined
  return { reference, configuration: `${flake}#nixosConfigurations.${host}.config` }
}

/**
 * Builds a flake reference: the system of a host, or any other output.
 *
 * @param roots Nix keeps the path until they are disposed of
 * @returns its path
 */
export async function buildFlakePath(
  reference: string,
  roots: DisposableStack,
  signal: AbortSignal,
): Promise<string> {
  const host = parseFlakeHost(reference)
  const installable = host ? `${host.configuration}.system.build.toplevel` : reference
  const build = ['build', '--out-link', newRoot(roots), '--json', installable]
  const output = await runNix(build, reference, signal)
  const built = v.safeParse(builtSchema, parseJson(output))
  const [path, ...more] = built.success ? built.output.flatMap(({ outputs }) => outputs.out) : []
  if (path === undefined || more.length > 0) throw notOnePath(reference)
  return path
}

/** The output of `nix build --json`. Nix 2.8 has no other way to tell the built paths. */
const builtSchema = v.array(v.object({ outputs: v.object({ out: v.string() }) }))

/**
 * Builds a host's system and the module's settings with one evaluation.
 *
 * @param roots Nix keeps the system until they are disposed of
 */
export async function buildFlakeHost(
  host: FlakeHost,
  roots: DisposableStack,
  signal: AbortSignal,
): Promise<BuiltHost> {
  const { reference, configuration } = host
  const evaluation = ['eval', '--json', configuration, '--apply', derivations]
  const evaluated = parseJson(await runNix(evaluation, reference, signal))
  const found = v.safeParse(derivationsSchema, evaluated)
  if (!found.success) throw notOnePath(reference)
  const { toplevel, settings } = found.output
  const wanted = settings === null ? [toplevel] : [toplevel, settings]
  const realise = ['--realise', ...wanted, '--add-root', newRoot(roots)]
  const built = await run('nix-store', realise, reference, signal)
  const [path, settingsPath, ...more] = built.split('\n').filter(Boolean).map(rootedPath)
  const storePath = toStorePath(path ?? '')
  if (!storePath || (settingsPath === undefined) !== (settings === null) || more.length > 0) {
    throw notOnePath(reference)
  }
  if (settingsPath === undefined) return { toplevel: storePath, settings: undefined }
  // Not read as a file: Nix's store may lie elsewhere than in this machine's /nix/store.
  const text = await runNix(['store', 'cat', settingsPath], reference, signal)
  return { toplevel: storePath, settings: text }
}

/**
 * The path for a link to the built path (a GC root). While the link exists, Nix's garbage collector
 * keeps the built path. Stores on other machines make no links.
 *
 * https://nix.dev/manual/nix/latest/package-management/garbage-collector-roots
 */
function newRoot(roots: DisposableStack): string {
  const directory = mkdtempSync(join(tmpdir(), 'netimage-root-'))
  roots.defer(() => rmSync(directory, { recursive: true, force: true }))
  return join(directory, 'system')
}

/** With `--add-root`, nix-store prints the links that it made, instead of the paths. */
function rootedPath(printed: string): string {
  return printed.startsWith(`${storeDir}/`) ? printed : readlinkSync(printed)
}

const derivations = `config: let inherit (config.system) build; in {
  toplevel = build.toplevel.drvPath;
  settings = if build ? netImage && build.netImage ? settings then build.netImage.settings.drvPath else null;
}`

const derivationsSchema = v.object({ toplevel: v.string(), settings: v.nullable(v.string()) })

function notOnePath(reference: string): NetimageError {
  return new NetimageError('not-a-system', `${reference} does not build exactly one path`)
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

async function runNix(args: string[], what: string, signal: AbortSignal): Promise<string> {
  const features = ['--extra-experimental-features', 'nix-command flakes']
  return await run('nix', [...features, ...args], what, signal)
}

async function run(
  program: string,
  args: string[],
  what: string,
  signal: AbortSignal,
): Promise<string> {
  const hint = `Nix is needed to build ${what}. Build the system on a machine that has Nix. Then name its store path, and with --from the store that has it.`
  // Nix shows its own progress and its own errors.
  const { status, stdout } = await runProgram(program, args, { hint, signal, showsErrors: true })
  if (status === 0) return stdout
  throw new NetimageError('nix-failed', `nix could not build ${what}`, {
    hint: 'Nix’s own messages above tell why.',
  })
}
