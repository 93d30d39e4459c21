// Runs the program netimage as a person does.

import { spawn, type ChildProcess } from 'node:child_process'
import assert from 'node:assert/strict'
import { join } from 'node:path'
import * as v from 'valibot'
import type { ErrorCode, ErrorDetails } from '../../src/errors.ts'

export const repository = join(import.meta.dirname, '../..')
export const cli = join(repository, 'src/cli.ts')

export type Run = {
  status: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

export type RunSettings = {
  cwd?: string
  /** These are added to an almost empty environment. undefined removes a variable. */
  env?: Record<string, string | undefined>
  /** A command prefix: `unshare`, `setpriv`… */
  through?: readonly string[]
  /** Arguments for Node itself. */
  node?: readonly string[]
}

export type Started = { child: ChildProcess; ended: Promise<Run> }

/** The program does not see the tester's environment and does not write to the tester's home. */
function environment({ env, cwd }: RunSettings): NodeJS.ProcessEnv {
  const home = cwd ?? '/nonexistent'
  return {
    PATH: process.env['PATH'],
    HOME: home,
    XDG_CACHE_HOME: join(home, 'cache'),
    TMPDIR: process.env['TMPDIR'],
    NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'],
    ...env,
  }
}

/**
 * For `netimage serve`: how many processes serve the machines. With NETIMAGE_TEST_WORKERS, all tests use
 * this number, and so show that machines notice no difference.
 *
 * @param chosen by a test for what it shows
 */
export function workersFlag(chosen = 0): readonly [string, string] {
  return ['--workers', process.env['NETIMAGE_TEST_WORKERS'] ?? `${chosen}`]
}

/** Starts `netimage` in a process group of its own. */
export function startNetimage(args: readonly string[], settings: RunSettings = {}): Started {
  const command = [...(settings.through ?? []), process.execPath, ...(settings.node ?? []), cli]
  const isServer = args[0] === 'serve'
  const [program = '', ...rest] = [
    ...[...command, ...args],
    ...(isServer && !args.includes('--workers') ? workersFlag() : []),
    // The servers of all tests would want the same port.
    ...(isServer && !args.includes('--page') ? ['--page', 'off'] : []),
  ]
  const child = spawn(program, rest, {
    cwd: settings.cwd,
    env: environment(settings),
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  })
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  const ended = new Promise<Run>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (status, signal) => resolve({ status, signal, stdout, stderr }))
  })
  return { child, ended }
}

export function netimage(args: readonly string[], settings?: RunSettings): Promise<Run> {
  return startNetimage(args, settings).ended
}

/** Runs a command that must succeed. @returns the JSON that it printed */
export async function netimageJson(
  args: readonly string[],
  settings?: RunSettings,
): Promise<Record<string, unknown>> {
  const run = await netimage([...args, '--json'], settings)
  assert.equal(run.status, 0, run.stderr)
  return parseObject(run.stdout)
}

export function parseObject(text: string): Record<string, unknown> {
  return v.parse(v.record(v.string(), v.unknown()), JSON.parse(text))
}

const failureSchema = v.strictObject({
  error: v.strictObject({
    code: v.string(),
    message: v.string(),
    hint: v.optional(v.string()),
    details: v.optional(v.record(v.string(), v.unknown()), {}),
  }),
})

/** The error that a run with `--json` printed. */
export function failureOf(run: Run): v.InferOutput<typeof failureSchema>['error'] {
  return v.parse(failureSchema, JSON.parse(run.stdout)).error
}

/** A run with `--json` that failed with this code, about all of these. */
export function assertFailed(
  run: Run,
  code: ErrorCode,
  details: ErrorDetails = {},
): v.InferOutput<typeof failureSchema>['error'] {
  const failure = failureOf(run)
  assert.equal(failure.code, code, failure.message)
  assert.partialDeepStrictEqual(failure.details, details, failure.message)
  return failure
}

const verificationSchema = v.object({
  whole: v.boolean(),
  findings: v.array(v.object({ path: v.string(), problem: v.string() })),
  storePaths: v.number(),
})

/** What `netimage verify` finds in an image. */
export async function verify(image: string, settings?: RunSettings) {
  const run = await netimage(['verify', image, '--json', '--quiet'], settings)
  const result = v.parse(verificationSchema, JSON.parse(run.stdout))
  assert.equal(run.status, result.whole ? 0 : 4)
  return result
}

export async function assertWhole(image: string, settings?: RunSettings): Promise<void> {
  assert.deepEqual((await verify(image, settings)).findings, [])
}
