/** Syncs of files. Callers that ask before a sync begins share it. Later callers share the next one. */
import { closeSync, fdatasync } from 'node:fs'
import { setImmediate as turn } from 'node:timers/promises'
import { promisify } from 'node:util'

import { synced } from './failure.ts'

const fdatasyncAsync = promisify(fdatasync)

/**
 * @param open opens the file of this key. It throws if the file cannot be opened
 * @returns a function that resolves once the data of the file is on the disk. It throws `SyncFailure`,
 *   and as `open`
 */
export function shareSyncs<Key>(open: (key: Key) => number): (key: Key) => Promise<void> {
  /** Syncs that have not begun. */
  const asked = new Map<Key, Promise<void>>()
  const running = new Map<Key, Promise<void>>()

  async function syncNext(key: Key, file: number): Promise<void> {
    try {
      // In the next turn, so that writes later in this one are part of the sync. If the sync that runs
      // fails, the kernel may forget data, so the next one fails, too.
      await turn()
        .then(() => running.get(key))
        .finally(() => asked.delete(key))
      const sync = synced(fdatasyncAsync(file)).finally(() => running.delete(key))
      running.set(key, sync)
      await sync
    } finally {
      closeSync(file)
    }
  }

  return async (key) => {
    const shared = asked.get(key)
    if (shared) return shared
    // Opened now, since the file may be gone when the sync begins, and only for this: a shared
    // descriptor may be closed meanwhile, and its number reused.
    const sync = syncNext(key, open(key))
    asked.set(key, sync)
    return sync
  }
}
