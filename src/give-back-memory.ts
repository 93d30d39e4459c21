/**
 * A server needs much memory while many machines boot, and little of it later. The C library would keep the
 * rest: 40 to 70 MiB in each process after 100 boots.
 */
import { builtAddon, hasFunctions, loadAddon } from './addon.ts'

/** The function of `native/memory.c`, which describes it. */
interface Addon {
  giveBackMemory(): void
}

/** Often, so that each time is short: about 1 ms, and 15 ms if 90 MiB of small pieces are free. Milliseconds. */
const everyMs = 2000

/**
 * Gives free memory back to the kernel from now on, until the process ends. Only for processes that are ours:
 * it is the memory of the whole process. Does nothing if there is no addon for this computer.
 */
export function keepGivingBackMemory(file = builtAddon): void {
  const addon = loadAddon(file)
  if (!isAddon(addon)) return
  setInterval(() => addon.giveBackMemory(), everyMs).unref()
}

function isAddon(loaded: unknown): loaded is Addon {
  return hasFunctions(loaded, ['giveBackMemory'])
}
