/** Copies the boot tree of an image and its files outside the store into a site. */
import {
  chmodSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  symlinkSync,
  utimesSync,
} from 'node:fs'
import { dirname, join } from 'node:path'

import { joinBytes } from '../../byte-paths.ts'
import { fileSystemError, NetimageError } from '../../errors.ts'
import { imageLayout, type ImageLayout } from '../../image/layout.ts'
import type { Manifest } from '../../image/manifest.ts'
import { differences } from '../../image/verify.ts'
import { storeTime } from '../../nix/nar/restore.ts'
import { copySafely } from '../../pool/adopt.ts'
import { listTree } from '../../tree-files.ts'
import type { SourceImage } from './source.ts'

/**
 * Never makes hard links to the image: its owner can write to these files. Then compares the copies
 * with the manifest.
 *
 * @param image an empty directory
 * @throws `NetimageError` `image-damaged`
 */
export async function copyOutside(source: SourceImage, image: string): Promise<void> {
  const { manifest, layout: from, options, directory } = source
  const to = imageLayout(image, options.rootDirectoryName)
  try {
    mkdirSync(join(image, 'net-image'))
    const stored = new Set<string>(source.closure.map(({ path }) => path))
    copyTree(from.root, to.root, (path) => stored.has(path))
    copyTree(from.boot, to.boot, () => false)
  } catch (error) {
    throw fileSystemError(`could not copy the files of the image ${directory}`, error)
  }
  await mustBeAsListed(source, manifest, to)
}

/**
 * Compares the boot tree and the files outside the store with the manifest.
 *
 * @param source of the copies, for the error
 * @throws `NetimageError` `image-damaged`
 */
export async function mustBeAsListed(
  { directory, options }: Pick<SourceImage, 'directory' | 'options'>,
  manifest: Manifest,
  copied: ImageLayout,
): Promise<void> {
  for (const part of ['root', 'boot'] as const) {
    const files = await listTree(copied[part], () => false)
    const [first] = differences(manifest[part].files, files)
    if (!first) continue
    const { path, problem } = first
    const file = join(imageLayout(directory, options.rootDirectoryName)[part], path)
    throw new NetimageError('image-damaged', `${file} is not as the manifest says: ${problem}`, {
      details: { file },
      hint: `Show all damage with: netimage verify ${directory}. Then build the image again.`,
    })
  }
}

/**
 * Keeps modes and hard links between the files. Times become those of all files of images. Files of
 * other kinds are left out.
 *
 * @param leavesOut gets the path below the tree, with a slash at its beginning
 */
function copyTree(source: string, target: string, leavesOut: (path: string) => boolean): void {
  const byInode = new Map<string, Buffer>()
  const owner = lstatSync(dirname(target))

  function copy(from: Buffer, to: Buffer, below: string): void {
    const stat = lstatSync(from)
    if (stat.isDirectory()) copyDirectory(from, to, below, stat.mode)
    else if (stat.isSymbolicLink()) {
      symlinkSync(readlinkSync(from, { encoding: 'buffer' }), to)
      lutimesSync(to, storeTime, storeTime)
    } else if (stat.isFile()) {
      const inode = `${stat.dev}:${stat.ino}`
      const copied = byInode.get(inode)
      if (copied) return linkSync(copied, to)
      if (stat.nlink > 1) byInode.set(inode, to)
      copySafely(from, to, owner)
      chmodSync(to, stat.mode & 0o7777)
      utimesSync(to, storeTime, storeTime)
    }
  }

  function copyDirectory(from: Buffer, to: Buffer, below: string, mode: number): void {
    mkdirSync(to, 0o755)
    for (const name of readdirSync(from, { encoding: 'buffer' })) {
      const path = `${below}/${name.toString('latin1')}`
      if (!leavesOut(path)) copy(joinBytes(from, name), joinBytes(to, name), path)
    }
    chmodSync(to, mode & 0o7777)
    utimesSync(to, storeTime, storeTime)
  }

  copy(Buffer.from(source), Buffer.from(target), '')
  // The manifest does not list the mode of the tree itself.
  chmodSync(target, 0o755)
}
