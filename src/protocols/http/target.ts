/** What a request's target names. [RFC 9112 §3.2] */

/** @returns the path, percent-decoded; undefined for what is none */
export function pathOfTarget(target: string): string | undefined {
  // A proxy's form, which servers have to understand as well.
  const path = target.replace(/^https?:\/\/[^/?#]*(?=\/)/i, '').replace(/[?#].*$/s, '')
  if (!path.startsWith('/')) return undefined
  try {
    return decodeURIComponent(path)
  } catch {
    return undefined
  }
}
