/**
 * Bootspec: a system's kernel, initrd and parameters for boot loaders (`boot.json`).
 *
 * https://github.com/NixOS/rfcs/blob/master/rfcs/0125-bootspec.md
 */
import * as v from 'valibot'

import { NetimageError, type NetimageErrorOptions } from '../errors.ts'

/** These texts become parts of lines in menus. A line break would begin a new line there. */
const oneLine = v.pipe(
  v.string(),
  v.check((text) => !lineBreaker.test(text), 'the text has a control character'),
)

// Control characters of ASCII and Latin-1, and Unicode's ends of lines and paragraphs.
const lineBreaker = /[\p{Cc}\p{Zl}\p{Zp}]/u

/** `..` could lead out of the store. In menus and kernel lines a name ends at a blank. */
const absolutePath = v.pipe(
  v.string(),
  v.check(
    (path) => /^\/(?!(.*\/)?\.\.(\/|$))/s.test(path) && isMenuPath(path),
    'the text is no absolute path, or has "..", blanks or control characters',
  ),
)

/** Whether a menu or a kernel line can name the file. */
export function isMenuPath(path: string): boolean {
  return !/\s/.test(path) && !lineBreaker.test(path)
}

/** Other programs than nixpkgs write `null` for a missing path. */
const optionalPath = v.pipe(
  v.nullish(absolutePath),
  v.transform((path) => path ?? undefined),
)

const specification = v.object({
  system: v.string(),
  init: absolutePath,
  kernel: absolutePath,
  kernelParams: v.array(oneLine),
  label: oneLine,
  toplevel: absolutePath,
  initrd: optionalPath,
})

export type BootSpecification = v.InferOutput<typeof specification>

export interface Bootspec extends BootSpecification {
  specialisations: Map<string, Bootspec>
}

const v1Key = 'org.nixos.bootspec.v1'
const specialisationKey = 'org.nixos.specialisation.v1'

/** NixOS allows no specialisations of specialisations. This bounds documents from elsewhere. */
const maxDepth = 4

/**
 * @param source where the text is from, for the error
 * @returns undefined if the document is of an unknown version
 */
export function parseBootspec(text: string, source: string): Bootspec | undefined {
  let document: unknown
  try {
    document = JSON.parse(text)
  } catch (error) {
    throw broken(`the bootspec ${source}`, 'it is not JSON', { cause: error })
  }
  return readDocument(document, `the bootspec ${source}`, 0)
}

function readDocument(document: unknown, source: string, depth: number): Bootspec | undefined {
  const outer = v.safeParse(v.record(v.string(), v.unknown()), document)
  if (!outer.success) throw broken(source, 'it is no JSON object')
  if (!(v1Key in outer.output)) return undefined
  const inner = parseSpecification(outer.output[v1Key], source)
  const specialisations = new Map<string, Bootspec>()
  const nested = v.safeParse(v.record(v.string(), v.unknown()), outer.output[specialisationKey])
  if (nested.success && depth < maxDepth) {
    for (const [name, child] of Object.entries(nested.output).sort(byName)) {
      checkSpecialisationName(name, source)
      const bootspec = readDocument(child, `${source} (${name})`, depth + 1)
      if (bootspec) specialisations.set(name, bootspec)
    }
  }
  return { ...inner, specialisations }
}

/** @param source where the value is from, for the beginning of an error */
export function parseSpecification(value: unknown, source: string): BootSpecification {
  const parsed = v.safeParse(specification, value)
  if (parsed.success) return parsed.output
  const [issue] = parsed.issues
  const field = v.getDotPath(issue) ?? v1Key
  throw broken(source, `${field}: ${issue.message}`, { details: { field } })
}

/**
 * The name is a directory's in NixOS. It becomes part of menus and of file names in the boot tree.
 */
export function checkSpecialisationName(name: string, source: string): void {
  if (!/^\.{0,2}$|\//.test(name) && !lineBreaker.test(name)) return
  throw broken(source, `a specialisation cannot have the name ${JSON.stringify(name)}`, {
    details: { field: specialisationKey, actual: name },
  })
}

function byName([a]: [string, unknown], [b]: [string, unknown]): number {
  return a < b ? -1 : 1
}

function broken(source: string, why: string, options?: NetimageErrorOptions): NetimageError {
  return new NetimageError('bad-system', `${source} is broken: ${why}`, options)
}
