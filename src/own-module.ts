/**
 * The URL of one of our own modules, to load it with Node. A module is a TypeScript file in a
 * checkout, and a JavaScript file in the published package.
 *
 * @param name the path below `src/`, without the extension: `pool/worker`
 */
export function ownModule(name: string): URL {
  const extension = import.meta.url.slice(import.meta.url.lastIndexOf('.'))
  return new URL(`./${name}${extension}`, import.meta.url)
}
