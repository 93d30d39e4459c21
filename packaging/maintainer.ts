/** Who answers for a Debian package: the person who makes the release. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import * as v from 'valibot'

const manifestSchema = v.object({ author: v.optional(v.string()) })

/** Debian wants a name and an address. `.invalid` says to everybody that there is none [RFC 2606]. */
export const noMaintainer = 'The netimage authors <nobody@netimage.invalid>'

/**
 * By Debian's own variables, DEBFULLNAME and DEBEMAIL, as debchange(1) reads them; or else by `author` of
 * package.json.
 *
 * @returns as in `Ada Lovelace <ada@example.org>`
 * @throws if one of them cannot be a line of Debian's control file
 */
export function maintainerOf(
  { DEBFULLNAME: name, DEBEMAIL: address }: NodeJS.ProcessEnv = process.env,
  manifest: unknown = readManifest(),
): string {
  const given = name !== undefined && address !== undefined ? `${name} <${address}>` : address
  const maintainer = given ?? v.parse(manifestSchema, manifest).author ?? noMaintainer
  if (/^[^<>\p{Cc}]*[^<>\s\p{Cc}] <[^<>@\s\p{Cc}]+@[^<>@\s\p{Cc}]+>$/u.test(maintainer)) {
    return maintainer
  }
  throw new Error(
    `The maintainer of the Debian package cannot be ${JSON.stringify(maintainer)}. Set DEBFULLNAME to a name and DEBEMAIL to an address, or author in package.json to "NAME <ADDRESS>".`,
  )
}

function readManifest(): unknown {
  return JSON.parse(readFileSync(join(import.meta.dirname, '../package.json'), 'utf8'))
}
