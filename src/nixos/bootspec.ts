/**
 * Bootspec: what a system says of how it is booted (`boot.json`).
 *
 * https://github.com/NixOS/rfcs/blob/master/rfcs/0125-bootspec.md
 */
import * as v from 'valibot'

import { NetimageError } from '../errors.ts'

/** In an absolute path a `..` could lead anywhere. */
const absolutePath = v.pipe(v.string(), v.regex(/^\/(?!(.*\/)?\.\.(\/|$))/s))

const specification = v.object({
  system: v.string(),
  init: absolutePath,
  kernel: absolutePath,
  kernelParams: v.array(v.string()),
  label: v.string(),
  toplevel: absolutePath,
  initrd: v.optional(absolutePath),
  initrdSecrets: v.optional(absolutePath),
})

export type BootSpecification = v.InferOutput<typeof specification>

export interface Bootspec extends BootSpecification {
  specialisations: Map<string, Bootspec>
}

const v1Key = 'org.nixos.bootspec.v1'
const specialisationKey = 'org.nixos.specialisation.v1'

/** Specialisations may have none of their own in NixOS; this bounds what is not NixOS. */
const maxDepth = 4

/**
 * @param source where the text is from, for the error
 * @returns undefined where the document is of a version that we do not know
 */
export function parseBootspec(text: string, source: string): Bootspec | undefined {
  let document: unknown
  try {
    document = JSON.parse(text)
  } catch (error) {
    throw broken(source, 'it is not JSON', error)
  }
  return readDocument(document, source, 0)
}

function readDocument(document: unknown, source: string, depth: number): Bootspec | undefined {
  const outer = v.safeParse(v.record(v.string(), v.unknown()), document)
  if (!outer.success) throw broken(source, 'it is no object')
  if (!(v1Key in outer.output)) return undefined
  const inner = v.safeParse(specification, outer.output[v1Key])
  if (!inner.success) {
    const [issue] = inner.issues
    throw broken(source, `${v.getDotPath(issue) ?? v1Key}: ${issue.message}`)
  }
  const specialisations = new Map<string, Bootspec>()
  const nested = v.safeParse(v.record(v.string(), v.unknown()), outer.output[specialisationKey])
  if (nested.success && depth < maxDepth) {
    for (const [name, child] of Object.entries(nested.output).sort(byName)) {
      const bootspec = readDocument(child, `${source} (${name})`, depth + 1)
      if (bootspec) specialisations.set(name, bootspec)
    }
  }
  return { ...inner.output, specialisations }
}

function byName([a]: [string, unknown], [b]: [string, unknown]): number {
  return a < b ? -1 : 1
}

function broken(source: string, why: string, cause?: unknown): NetimageError {
  return new NetimageError('bad-system', `the bootspec ${source} is broken: ${why}`, { cause })
}
