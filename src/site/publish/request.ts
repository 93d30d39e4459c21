/**
 * The files by which a machine and the server talk about a system that the machine built. They lie in
 * the root of the machine, and the boot loader hook of our NixOS module writes and reads them (see
 * nix/publish.nix).
 *
 * The request is JSON. The answer is lines of a word and a text, because a shell script reads it.
 */
import * as v from 'valibot'

import { toStorePath, type StorePath } from '../../nix/store-path.ts'
import { visible } from '../../printable.ts'

/**
 * The directory of both files, as names from the root. It is below /nix, because /var may be on a
 * disk of the machine, or in its memory: the server would not see the request there.
 */
export const publishDirectory = ['nix', 'var', 'netimage', 'publish'] as const
export const requestName = 'request'
export const answerName = 'answer'

export const maxRequestBytes = 4096

/** The names and the version are also in nix/publish.nix. */
const requestSchema = v.object({
  version: v.literal(1),
  id: v.pipe(v.string(), v.regex(/^[0-9a-zA-Z-]{1,64}$/)),
  toplevel: v.string(),
})

export interface Request {
  /** A random name, so that the hook can tell the answer to its request from an earlier one. */
  id: string
  toplevel: StorePath
}

/** Why a machine does not get a system, and what the person who runs nixos-rebuild can do. */
export interface Refusal {
  /** The end of a sentence: `the request is not JSON`. */
  why: string
  /** Sentences. */
  hint?: string | undefined
}

/** A request that cannot be answered with a published system. */
export interface BadRequest extends Refusal {
  id: string | undefined
}

const versionHint =
  'Use one version of netimage for the server and for the configuration of the machine.'
const storeHint = 'Build the system with nixos-rebuild: it must be in the store of the machine.'

export function parseRequest(text: string): Request | BadRequest {
  let document: unknown
  try {
    document = JSON.parse(text)
  } catch {
    return { id: undefined, why: 'the request is not JSON', hint: versionHint }
  }
  const parsed = v.safeParse(requestSchema, document)
  if (!parsed.success) {
    const [issue] = parsed.issues
    const why = `the request has a wrong ${v.getDotPath(issue) ?? 'form'}`
    return { id: undefined, why, hint: versionHint }
  }
  const { id, toplevel: named } = parsed.output
  const toplevel = toStorePath(named)
  if (toplevel) return { id, toplevel }
  const why = `${JSON.stringify(named.slice(0, 200))} is not a store path`
  return { id, why, hint: storeHint }
}

/**
 * - `working`: the server makes the boot files.
 * - `published`: the system is a generation of the machine.
 * - `refused`: it is not.
 */
export interface Answer {
  id: string
  status: 'working' | 'published' | 'refused'
  /** Systems that the machine must keep in its store. */
  keep?: readonly string[]
  /** Sentences for the person who runs nixos-rebuild. */
  says?: readonly string[]
}

/**
 * The size of the file for the answer. The hook makes the file with this size, and the server writes
 * all of it: a machine that has no room left may still overwrite data.
 */
export const answerBytes = 4096
const maxSentence = 1000

/** @returns `answerBytes`: the lines, and then spaces; sentences that do not fit are left out */
export function formatAnswer({ id, status, keep = [], says = [] }: Answer): Buffer {
  const lines = [
    `id ${id}`,
    `status ${status}`,
    ...keep.map((toplevel) => `keep ${toplevel}`),
    ...says.map((sentence) => `say ${visible(sentence).slice(0, maxSentence)}`),
  ]
  // Not zeros: a disk that compresses may store them as a hole, and to overwrite a hole takes room.
  const answer = Buffer.alloc(answerBytes, ' ')
  let end = 0
  for (const line of lines) {
    const bytes = Buffer.from(`${line}\n`)
    if (end + bytes.length > answerBytes) break
    end += bytes.copy(answer, end)
  }
  return answer
}

/** Whether the text is an answer to the request, and says more than that the server works on it. */
export function isFinalAnswer(text: string, id: string): boolean {
  return (
    text.startsWith(`id ${id}\nstatus published\n`) || text.startsWith(`id ${id}\nstatus refused\n`)
  )
}
