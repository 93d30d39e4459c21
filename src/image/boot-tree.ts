/** Writes the files of the ways of booting into an image's boot tree. */
import { chmodSync, constants, existsSync, mkdirSync, readlinkSync, writeFileSync } from 'node:fs'
import { chmod, copyFile, lstat, mkdir, open, readdir, type FileHandle } from 'node:fs/promises'
import { dirname, join, posix } from 'node:path'

import type { BootContent, BootFile, Part } from '../boot/boot-files.ts'
import { fileSystemError, NetimageError } from '../errors.ts'
import type { StoreFile } from '../nixos/store-files.ts'

type Find = (path: string) => Promise<StoreFile | undefined>

const bufferBytes = 1 << 20
/** The depth limit of a NAR. */
const maxDepth = 64

export async function writeBootTree(
  tree: string,
  files: readonly BootFile[],
  find: Find,
): Promise<void> {
  for (const { path, content } of files) {
    const target = join(tree, path)
    try {
      makeFolder(tree, posix.dirname(path))
      await writeContent(target, content, find)
    } catch (error) {
      throw fileSystemError(`could not write ${path} of the boot tree`, error)
    }
  }
}

/** Sets the mode of each folder: the server is another user, and the umask may be strict. */
function makeFolder(tree: string, path: string): void {
  if (path === '.') return
  makeFolder(tree, posix.dirname(path))
  const folder = join(tree, path)
  mkdirSync(folder, { recursive: true })
  chmodSync(folder, 0o755)
}

async function writeContent(target: string, content: BootContent, find: Find): Promise<void> {
  switch (content.kind) {
    case 'text':
      writeFileSync(target, content.text)
      break
    case 'copy':
      await copyTree(content, target, find, 0)
      return await content.finish?.(target)
    case 'parts':
      await writeParts(target, content.parts)
      await content.finish?.(target)
  }
  chmodSync(target, 0o644)
}

/**
 * Copies the targets of links: TFTP servers and most HTTP servers do not follow links. A server that
 * copies for one machine can answer others meanwhile.
 */
async function copyTree(
  source: CopySource,
  target: string,
  find: Find,
  depth: number,
): Promise<void> {
  const { from } = source
  if (depth > maxDepth) {
    throw new NetimageError('bad-system', `${from} lies too deep, or its links lead in a circle`, {
      details: { file: from },
    })
  }
  const stat = await lstat(from)
  if (stat.isDirectory()) {
    await mkdir(target, { recursive: true })
    for (const name of await readdir(from)) {
      await copyTree(childOf(source, name), join(target, name), find, depth + 1)
    }
    await chmod(target, 0o755)
  } else if (stat.isSymbolicLink()) {
    await copyTree(await linkTarget(source, find), target, find, depth + 1)
  } else {
    await copyFile(from, target, constants.COPYFILE_FICLONE)
    await chmod(target, 0o644)
  }
}

type CopySource = Pick<Extract<BootContent, { kind: 'copy' }>, 'from' | 'storePath'>

function childOf({ from, storePath }: CopySource, name: string): CopySource {
  return {
    from: join(from, name),
    ...(storePath !== undefined && { storePath: `${storePath}/${name}` }),
  }
}

/**
 * Follows a link of the closure as the booted machine would: files from elsewhere on this machine
 * must not be published. A link in a directory that a person named is followed on this machine, and
 * if the target does not exist here, in the closure.
 */
async function linkTarget({ from, storePath }: CopySource, find: Find): Promise<CopySource> {
  const target = readlinkSync(from)
  const here = posix.resolve(dirname(from), target)
  if (storePath === undefined && existsSync(here)) return { from: here }
  const found = await find(posix.resolve(dirname(storePath ?? from), target))
  if (found) return { from: found.real, storePath: found.path }
  throw new NetimageError(
    'bad-system',
    `the link ${storePath ?? from} leads to ${target}, which is not there`,
    {
      details: { file: from, actual: target, ...(storePath !== undefined && { path: storePath }) },
    },
  )
}

async function writeParts(target: string, parts: readonly Part[]): Promise<void> {
  await using output = await open(target, 'w')
  const buffer = Buffer.alloc(bufferBytes)
  for (const part of parts) {
    if (Buffer.isBuffer(part)) await output.writeFile(part)
    else await appendFile(output, part.from, part.size, buffer)
  }
}

async function appendFile(output: FileHandle, from: string, size: number, buffer: Buffer) {
  await using input = await open(from)
  for (let left = size; left > 0;) {
    const { bytesRead } = await input.read(buffer, 0, Math.min(left, buffer.length))
    if (bytesRead === 0)
      throw new NetimageError('file-system', `${from} became shorter`, { details: { file: from } })
    await output.writeFile(buffer.subarray(0, bytesRead))
    left -= bytesRead
  }
}
