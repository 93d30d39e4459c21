/** Systems that are hosts of a flake: Nix evaluates and builds them. */
import * as v from 'valibot'

import { NetimageError } from '../errors.ts'
import { toStorePath, type StorePath } from '../nix/store-path.ts'
import { runProgram } from '../run-program.ts'

export interface FlakeHost {
  /** As the person wrote it: `.#pi`. */
  reference: string
  /** Where its configuration is: `.#nixosConfigurations.pi.config`. */
  configuration: string
}

export interface BuiltHost {
  toplevel: StorePath
  /** What netimage's NixOS module says of the image: JSON. Undefined where there is no module. */
  settings: string | undefined
}

/** Undefined where the fragment names something else than a host. */
export function parseFlakeHost(reference: string): FlakeHost | undefined {
  const [, flake, host] = /^([^#]*)#([A-Za-z0-9_][A-Za-z0-9_'-]*)$/.exec(reference) ?? []
  if (flake === undefined || host === undefined) return undefined
  return { reference, configuration: `${flake}#nixosConfigurations.${host}.config` }
}

/** The path that a flake reference builds: a host's system, or what it names otherwise. */
export async function buildFlakePath(reference: string, signal: AbortSignal): Promise<string> {
  const host = parseFlakeHost(reference)
  const installable = host ? `${host.configuration}.system.build.toplevel` : reference
  const output = await runNix(['build', '--no-link', '--json', installable], reference, signal)
  const built = v.safeParse(builtSchema, parseJson(output))
  const [path, ...more] = built.success ? built.output.flatMap(({ outputs }) => outputs.out) : []
  if (path === undefined || more.length > 0) throw notOnePath(reference)
  return path
}

/** What `nix build --json` prints; Nix 2.8 has no other way to tell what it built. */
const builtSchema = v.array(v.object({ outputs: v.object({ out: v.string() }) }))

/** A host's system, with what the module says: both at the price of one evaluation. */
export async function buildFlakeHost(host: FlakeHost, signal: AbortSignal): Promise<BuiltHost> {
  const { reference, configuration } = host
  const evaluation = ['eval', '--json', configuration, '--apply', derivations]
  const evaluated = parseJson(await runNix(evaluation, reference, signal))
  const found = v.safeParse(derivationsSchema, evaluated)
  if (!found.success) throw notOnePath(reference)
  const { toplevel, settings } = found.output
  const wanted = settings === null ? [toplevel] : [toplevel, settings]
  const built = await run('nix-store', ['--realise', ...wanted], reference, signal)
  const [path, settingsPath, ...more] = built.split('\n').filter(Boolean)
  const storePath = toStorePath(path ?? '')
  if (!storePath || (settingsPath === undefined) !== (settings === null) || more.length > 0) {
    throw notOnePath(reference)
  }
  if (settingsPath === undefined) return { toplevel: storePath, settings: undefined }
  // Not read as a file: the store need not lie in this machine's /nix/store.
  const text = await runNix(['store', 'cat', settingsPath], reference, signal)
  return { toplevel: storePath, settings: text }
}

const derivations = `config: let inherit (config.system) build; in {
  toplevel = build.toplevel.drvPath;
  settings = if build ? netImage && build.netImage ? settings then build.netImage.settings.drvPath else null;
}`

const derivationsSchema = v.object({ toplevel: v.string(), settings: v.nullable(v.string()) })

function notOnePath(reference: string): NetimageError {
  return new NetimageError('not-a-system', `${reference} does not build one path`)
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
  const hint = `It takes Nix to build ${what}. Build the system on a machine that has Nix, and name its store path with --from and the store that has it.`
  // Nix shows its own progress and its own errors.
  const { status, stdout } = await runProgram(program, args, { hint, signal, showsErrors: true })
  if (status === 0) return stdout
  throw new NetimageError('nix-failed', `nix could not build ${what}`, {
    hint: 'What nix said stands above.',
  })
}
