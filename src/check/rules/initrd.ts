/** Whether the kernel can unpack the initrd, and netimage can read it. */
import { findPerEntry, type Rule } from '../rule.ts'

export const brokenInitrd: Rule = {
  name: 'broken-initrd',
  level: 'error',
  async find(context) {
    return await findPerEntry(context, async (entry) => {
      const initrd = await context.initrdOf(entry)
      if (!initrd?.unread || initrd.unread.compression !== undefined) return []
      const message = `${initrd.unread.why}; the kernel does not unpack the rest`
      const fix =
        'Build the system again, or fetch it again: netimage gc --keep-days 0 removes it from the pool.'
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
      const message = `the initrd is compressed with ${compression}, which netimage cannot read: its content was not checked`
      const fix = 'boot.initrd.compressor = "zstd";'
      return [{ message, fix, path: entry.initrd }]
    })
  },
}
