/** What the server knows, for programs: `/api/machines`, `/api/machines/<mac>`, `/api/images`. */
import { addressIn } from '../machine-address.ts'

/** Plain data, as it is to be printed as JSON. */
export interface Knowledge {
  /** By hardware address, in lower case with colons; one without by its IP address. */
  machines: () => ReadonlyMap<string, object>
  images: () => readonly object[]
}

/**
 * @param path percent-decoded, with the `/` at its start
 * @returns undefined where there is nothing of that name
 */
export function lookUp({ machines, images }: Knowledge, path: string): object | undefined {
  const [, , collection, name, ...rest] = path.split('/')
  if (rest.length > 0) return undefined
  if (collection === 'images' && name === undefined) return images()
  if (collection !== 'machines') return undefined
  if (name === undefined) return [...machines().values()]
  return machines().get(addressIn(name))
}
