/** Holds open the files that were used last. The file that was not used for longest is closed. */
import { closeSync } from 'node:fs'

export interface OpenFiles {
  /** @param open called if the file is not open yet */
  get(key: string, open: () => number): number
  forget(key: string): void
  /** Closes the files whose keys begin with this. */
  forgetAll(beginning: string): void
  close(): void
}

export function createOpenFiles(max: number): OpenFiles {
  const open = new Map<string, number>()
  function forget(key: string): void {
    const descriptor = open.get(key)
    if (descriptor === undefined) return
    open.delete(key)
    closeSync(descriptor)
  }
  function forgetAll(beginning: string): void {
    for (const key of [...open.keys()]) if (key.startsWith(beginning)) forget(key)
  }
  return {
    get(key, openFile) {
      const known = open.get(key)
      if (known !== undefined) {
        open.delete(key)
        open.set(key, known)
        return known
      }
      const descriptor = openFile()
      const [oldest] = open.keys()
      if (open.size >= max && oldest !== undefined) forget(oldest)
      open.set(key, descriptor)
      return descriptor
    },
    forget,
    forgetAll,
    close: () => forgetAll(''),
  }
}
