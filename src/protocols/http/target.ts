/** The target of a request. [RFC 9112 §3.2] */

/** @returns the path, percent-decoded; undefined if the target has no valid path */
export function pathOfTarget(target: string): string | undefined {
  // Servers must also accept the absolute form, which is meant for proxies.
  const path = target.replace(/^https?:\/\/[^/?#]*(?=\/)/i, '').replace(/[?#].*$/s, '')
  if (!path.startsWith('/')) return undefined
  try {
    return decodeURIComponent(path)
  } catch {
    return undefined
  }
}
