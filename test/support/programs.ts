// Runs programs with bytes as input and output. They are the oracles of codecs.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { buffer, text } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { missingProgram } from './packages.ts'

export interface FilterOptions {
  input?: Uint8Array
  environment?: NodeJS.ProcessEnv
}

/** Runs a program on `input` and returns its output. @throws with the text from its stderr */
export async function filterThrough(
  program: string,
  args: readonly string[],
  { input = Buffer.alloc(0), environment = process.env }: FilterOptions = {},
): Promise<Buffer> {
  const child = spawn(program, args, { env: environment })
  const closed = once(child, 'close').catch((error: unknown) => {
    const isMissing = error instanceof Error && 'code' in error && error.code === 'ENOENT'
    throw isMissing ? missingProgram(program) : error
  })
  // A program may end before it has read everything. Its exit status tells whether it failed.
  const fed = pipeline([input], child.stdin).catch(() => undefined)
  const [[status], output, complaints] = await Promise.all([
    closed,
    buffer(child.stdout),
    text(child.stderr),
    fed,
  ])
  if (status === 0) return output
  throw new Error(`"${[program, ...args].join(' ')}" ended with ${status}: ${complaints.trim()}`)
}

/** Nix without the machine's configuration, for commands that need no store. */
export const plainNix: NodeJS.ProcessEnv = {
  PATH: process.env['PATH'],
  NIX_CONF_DIR: '/nonexistent',
  NIX_USER_CONF_FILES: '',
  // No need to sync: tests remove their files soon.
  NIX_CONFIG: 'fsync-metadata = false',
}
