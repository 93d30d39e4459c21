/** Makes the boot tree of an image and its files outside the store from what a sender sends. */
import {
  chmodSync,
  closeSync,
  fchmodSync,
  futimesSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  openSync,
  symlinkSync,
  utimesSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'

import { joinBytes } from '../../byte-paths.ts'
import { fileSystemError, NetimageError } from '../../errors.ts'
import { imageLayout } from '../../image/layout.ts'
import type { ReadImage } from '../../image/manifest.ts'
import { storeTime } from '../../nix/nar/restore.ts'
import { unescapeBytes, type TreeFile } from '../../tree-files.ts'
import { mustBeAsListed } from '../images/copy-outside.ts'
import { badMessage, type ToSender } from './channel.ts'

type Part = 'root' | 'boot'
type RegularFile = Extract<TreeFile, { type: 'file' }>

/**
 * Only the files that the manifest lists are made. To be called after `mustBeTrees`.
 *
 * @param image an empty directory
 * @throws `NetimageError` `image-damaged` if the files are not as the manifest says
 */
export async function receiveOutside(
  source: ReadImage & { directory: string },
  channel: ToSender,
  image: string,
): Promise<void> {
  const { manifest, options } = source
  const layout = imageLayout(image, options.rootDirectoryName)
  mkdirSync(join(image, 'net-image'))
  for (const part of ['root', 'boot'] as const) {
    try {
      await makeTree(layout[part], manifest[part].files, part, channel)
    } catch (error) {
      throw fileSystemError(`could not write the files of the ${source.directory}`, error)
    }
  }
  await mustBeAsListed(source, manifest, layout)
}

async function makeTree(
  tree: string,
  files: readonly TreeFile[],
  part: Part,
  channel: ToSender,
): Promise<void> {
  const top = Buffer.from(tree)
  const at = ({ path }: TreeFile) => joinBytes(top, unescapeBytes(path))
  const made = new Map<string, Buffer>()
  mkdirSync(tree)
  for (const file of files) {
    if (file.type === 'directory') mkdirSync(at(file), 0o700)
    else if (file.type === 'symlink') {
      symlinkSync(unescapeBytes(file.target), at(file))
      lutimesSync(at(file), storeTime, storeTime)
    } else {
      await receiveFile(file, { part, at: at(file), made }, channel)
      made.set(file.path, at(file))
    }
  }
  // What is in a directory comes after it in the list, and must be made first.
  for (const file of files.toReversed()) {
    if (file.type !== 'directory') continue
    chmodSync(at(file), Number.parseInt(file.mode, 8))
    utimesSync(at(file), storeTime, storeTime)
  }
  chmodSync(tree, 0o755)
  utimesSync(tree, storeTime, storeTime)
}

interface Place {
  part: Part
  at: Buffer
  /** The files of this part that are there, by their paths. */
  made: ReadonlyMap<string, Buffer>
}

async function receiveFile(
  { path, mode, size }: RegularFile,
  { part, at, made }: Place,
  channel: ToSender,
): Promise<void> {
  const message = await channel.message()
  const isThis = 'part' in message && message.part === part && message.path === path
  if (!isThis) throw badMessage('the sender', `it sends something else than ${part}/${path}`)
  if (message.kind === 'link') {
    const existing = made.get(message.to)
    if (!existing) throw badMessage('the sender', `${part}/${message.to} has not been sent yet`)
    return linkSync(existing, at)
  }
  const file = openSync(at, 'wx', 0o600)
  try {
    for await (const piece of channel.pieces(size, `${part}/${path}`)) {
      for (let done = 0; done < piece.length;) done += writeSync(file, piece, done)
    }
    fchmodSync(file, Number.parseInt(mode, 8))
    futimesSync(file, storeTime, storeTime)
  } finally {
    closeSync(file)
  }
}

const slash = 0x2f
const forbidden = new Set(['', '.', '..'])

/**
 * Refuses a manifest with paths that could lead out of its trees, or into the store paths of its closure.
 *
 * @throws `NetimageError` `image-damaged`
 */
export function mustBeTrees({ manifest, closure }: ReadImage): void {
  const stored = new Set(closure.map(({ path }) => path.slice(1)))
  for (const part of ['root', 'boot'] as const) {
    const directories = new Set([''])
    const known = new Set<string>()
    for (const file of manifest[part].files) {
      const path = unescapeBytes(file.path)
      const end = path.lastIndexOf(slash)
      const key = path.toString('latin1')
      const name = path.subarray(end + 1).toString('latin1')
      const isInTree = directories.has(key.slice(0, Math.max(0, end)))
      const isOdd = forbidden.has(name) || path.includes(0) || end === 0 || known.has(key)
      if (!isInTree || isOdd || (part === 'root' && stored.has(key))) {
        throw badPath(part, file.path)
      }
      if (file.type === 'symlink' && unescapeBytes(file.target).includes(0)) {
        throw badPath(part, file.path)
      }
      known.add(key)
      if (file.type === 'directory') directories.add(key)
    }
  }
}

function badPath(part: Part, path: string): NetimageError {
  const shown = JSON.stringify(path)
  return new NetimageError('image-damaged', `the manifest lists ${shown} in its ${part} tree`, {
    details: { field: `${part}.files`, actual: path },
    hint: 'Build the image again. If netimage built it, somebody has changed its manifest.',
  })
}
