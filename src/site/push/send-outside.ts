/** Sends the regular files of an image outside its store paths. The manifest has all else. */
import { createHash } from 'node:crypto'
import { closeSync, fstatSync, readSync } from 'node:fs'

import { joinBytes } from '../../byte-paths.ts'
import { NetimageError } from '../../errors.ts'
import { imageLayout } from '../../image/layout.ts'
import { openRegularFile } from '../../open-safely.ts'
import { unescapeBytes, type TreeFile } from '../../tree-files.ts'
import type { SiteImage } from '../images/site-image.ts'
import type { ToReceiver } from './channel.ts'

const pieceBytes = 2 ** 18

/** @throws `NetimageError` `image-damaged` if a file is not as the manifest says */
export async function sendOutside(image: SiteImage, channel: ToReceiver): Promise<void> {
  const layout = imageLayout(image.directory, image.options.rootDirectoryName)
  for (const part of ['root', 'boot'] as const) {
    const top = Buffer.from(layout[part])
    /** The first name of each file that has several. */
    const firstNames = new Map<string, string>()
    for (const file of image.manifest[part].files) {
      if (file.type !== 'file') continue
      const { path } = file
      const at = joinBytes(top, unescapeBytes(path))
      const open = openRegularFile(at)
      try {
        const { dev, ino, nlink } = fstatSync(open)
        const to = firstNames.get(`${dev}:${ino}`)
        if (to !== undefined) await channel.say({ kind: 'link', part, path, to })
        else {
          if (nlink > 1) firstNames.set(`${dev}:${ino}`, path)
          await channel.say({ kind: 'file', part, path })
          await sendContents(open, file, at, channel)
        }
      } finally {
        closeSync(open)
      }
    }
  }
}

async function sendContents(
  open: number,
  { size, sha256 }: Extract<TreeFile, { type: 'file' }>,
  at: Buffer,
  channel: ToReceiver,
): Promise<void> {
  const hash = createHash('sha256')
  const buffer = Buffer.allocUnsafe(Math.min(size, pieceBytes))
  for (let left = size; left > 0;) {
    const count = readSync(open, buffer, 0, Math.min(left, buffer.length), null)
    if (count === 0) throw damaged(at)
    const piece = buffer.subarray(0, count)
    hash.update(piece)
    await channel.give(piece)
    left -= count
  }
  if (hash.digest('hex') !== sha256) throw damaged(at)
}

function damaged(at: Buffer): NetimageError {
  const file = at.toString()
  return new NetimageError('image-damaged', `${file} is not as the manifest of its image says`, {
    details: { file },
    hint: 'Stop the server, repair the image from the directory that it was added from, and push again: netimage site add --repair DIR.',
  })
}
