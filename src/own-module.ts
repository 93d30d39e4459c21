/**
 * The address of one of our own modules, for Node to load it by: a TypeScript file in a checkout, and
 * a JavaScript file in the package that is published.
 *
 * @param name its path below `src/`, without the extension: `pool/worker`
 */
export function ownModule(name: string): URL {
  const extension = import.meta.url.slice(import.meta.url.lastIndexOf('.'))
  return new URL(`./${name}${extension}`, import.meta.url)
}
