/** Whether the initrd can be unpacked, and looked into. */
import { findPerEntry, type Rule } from '../rule.ts'

export const brokenInitrd: Rule = {
  name: 'broken-initrd',
  level: 'error',
  async find(context) {
    return await findPerEntry(context, async (entry) => {
      const initrd = await context.initrdOf(entry)
      if (!initrd?.unread || initrd.unread.compression !== undefined) return []
      const message = `${initrd.unread.why}; the kernel does not unpack what comes after that`
      const fix =
        'Build the system again, or fetch it anew: netimage gc --keep-days 0 forgets what the pool has.'
      return [{ message, fix, path: entry.initrd }]
    })
  },
}

export const unknownInitrdCompression: Rule = {
  name: 'unknown-initrd-compression',
  level: 'note',
  async find(context) {
    return await findPerEntry(context, async (entry) => {
      const compression = (await context.initrdOf(entry))?.unread?.compression
      if (compression === undefined) return []
      const message = `the initrd is compressed with ${compression}, which netimage cannot read: what is in it was not checked`
      const fix = 'boot.initrd.compressor = "zstd";'
      return [{ message, fix, path: entry.initrd }]
    })
  },
}
