/**
 * Runs the program that an AWS profile names for its credentials.
 *
 * https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Readable } from 'node:stream'
import * as v from 'valibot'

import { messageOf, NetimageError } from '../../errors.ts'
import { endGroup, endGroupOn } from '../../process-group.ts'

const outputSchema = v.object({
  Version: v.literal(1),
  AccessKeyId: v.string(),
  SecretAccessKey: v.string(),
  SessionToken: v.optional(v.string()),
  Expiration: v.optional(v.pipe(v.string(), v.isoTimestamp())),
})

export type ProcessCredentials = v.InferOutput<typeof outputSchema>

/** Credentials have a few kilobytes. */
const maxOutputBytes = 64 * 1024

/**
 * @param command a command line for the shell
 * @param signal ends the program and all that it started
 * @throws `NetimageError` `not-allowed`, `interrupted`
 */
export async function runCredentialProcess(
  command: string,
  env: NodeJS.ProcessEnv,
  signal: AbortSignal = new AbortController().signal,
): Promise<ProcessCredentials> {
  try {
    return v.parse(outputSchema, JSON.parse(await outputOf(command, env, signal)))
  } catch (error) {
    if (signal.aborted) throw new NetimageError('interrupted', 'interrupted', { cause: error })
    // The program's output is secret, and a parser's message may quote the output. So the error of
    // a parser must not become the cause.
    const isOutput = error instanceof SyntaxError || error instanceof v.ValiError
    const why = isOutput ? 'it does not print credentials of version 1' : messageOf(error)
    throw new NetimageError('not-allowed', `the credential_process of AWS failed: ${why}`, {
      hint: 'Run the command by hand: it is in ~/.aws/config or ~/.aws/credentials.',
      details: { field: 'credential_process' },
    })
  }
}

async function outputOf(
  command: string,
  env: NodeJS.ProcessEnv,
  signal: AbortSignal,
): Promise<string> {
  signal.throwIfAborted()
  const child = spawn('/bin/sh', ['-c', command], {
    env,
    // A process group of its own, so that a signal also ends what the command started.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const release = endGroupOn(signal, child)
  try {
    const [[status, endedBy], stdout, stderr] = await Promise.all([
      once(child, 'close'),
      readBounded(child.stdout),
      readBounded(child.stderr),
    ])
    if (status === 0) return stdout
    throw new Error(`it ended with status ${status ?? endedBy}: ${stderr.trim()}`)
  } catch (error) {
    endGroup(child, 'SIGKILL')
    throw error
  } finally {
    release()
  }
}

async function readBounded(stream: Readable): Promise<string> {
  const parts: Buffer[] = []
  let size = 0
  for await (const chunk of stream) {
    if (!Buffer.isBuffer(chunk)) continue
    size += chunk.length
    if (size > maxOutputBytes) throw new Error(`it prints more than ${maxOutputBytes} bytes`)
    parts.push(chunk)
  }
  return Buffer.concat(parts).toString()
}
