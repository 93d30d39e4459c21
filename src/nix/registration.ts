/**
 * A registration: the text from which `nix-store --load-db` learns store paths.
 *
 * Each path has one record: the path, its NAR hash, its NAR size, the deriver or an empty line, the
 * number of references, and each reference on a line of its own. If the end has one newline too
 * many or too few, Nix rejects the whole text.
 *
 * https://github.com/NixOS/nix/blob/master/src/libstore/path-info.cc (decodeValidPathInfo)
 */
import { NetimageError } from '../errors.ts'
import { formatHash, parseHash } from './hash.ts'
import { sortedReferences, type PathInfo } from './path-info.ts'
import { toStorePath } from './store-path.ts'

/** The name of the file that NixOS reads from its root file system at the first boot. */
export const registrationName = 'nix-path-registration'

/**
 * The deriver stays empty, as in nixpkgs's closure info: the image does not have that file, and
 * stores name different derivers for the same path, so equal images would differ.
 */
export function formatRegistration(closure: Iterable<PathInfo>): string {
  let text = ''
  for (const { path, narHash, narSize, references } of closure) {
    const lines = [path, formatHash(narHash), narSize, '', references.length, ...references]
    text += lines.join('\n') + '\n'
  }
  return text
}

/** @param source the file of the text, for the error */
export function parseRegistration(text: string, source: string): PathInfo[] {
  const lines = text.split('\n')
  if (lines.pop() !== '')
    throw badRegistration(source, lines.length, 'the last line has no newline')
  const infos: PathInfo[] = []
  let next = 0
  while (next < lines.length) {
    const start = next
    const path = toStorePath(lines[next++] ?? '')
    const narHash = parseHash(withAlgorithm(lines[next++] ?? ''))
    const narSize = parseCount(lines[next++])
    const deriverLine = lines[next++]
    const deriver = deriverLine ? toStorePath(deriverLine) : undefined
    const count = parseCount(lines[next++])
    const whole = deriverLine === '' || deriver !== undefined
    if (!path || narHash?.algorithm !== 'sha256' || !narSize || !whole || count === undefined) {
      throw badRegistration(source, start + 1, 'this is not a record of a store path')
    }
    const references = lines.slice(next, next + count).map(toStorePath)
    const valid = references.filter((reference) => reference !== undefined)
    if (valid.length !== count) {
      throw badRegistration(source, next + 1, `${count} references should follow`)
    }
    next += count
    infos.push({
      path,
      narHash,
      narSize,
      references: sortedReferences(valid),
      signatures: [],
      ...(deriver && { deriver }),
    })
  }
  return infos
}

/** `nix-store --dump-db` writes the digest in bare base16. */
function withAlgorithm(hash: string): string {
  return hash.includes(':') ? hash : `sha256:${hash}`
}

function parseCount(text: string | undefined): number | undefined {
  if (text === undefined || !/^(0|[1-9][0-9]*)$/.test(text)) return undefined
  const count = Number(text)
  return Number.isSafeInteger(count) ? count : undefined
}

function badRegistration(source: string, line: number, why: string): NetimageError {
  return new NetimageError(
    'bad-store',
    `the registration ${source} is broken at line ${line}: ${why}`,
    { details: { file: source, field: `line ${line}` } },
  )
}
