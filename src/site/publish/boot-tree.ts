/**
 * Makes the boot tree of a system that a machine built, in the same way as the boot tree of the
 * machine's image: the same ways of booting, the same settings, and the files that do not come from
 * the system.
 */
import { mkdir, readFile, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'

import type { BootFile } from '../../boot/boot-files.ts'
import { partBytes } from '../../boot/boot-files.ts'
import { ubootName } from '../../boot/raspberry-pi.ts'
import type { BootSettings } from '../../boot/request.ts'
import { findSystemStub } from '../../boot/uefi.ts'
import { bootFiles } from '../../boot/ways.ts'
import type { BootOrigin } from '../../image/boot-origin.ts'
import { writeBootTree } from '../../image/boot-tree.ts'
import type { Manifest } from '../../image/manifest.ts'
import { hashPartOf, toStorePath } from '../../nix/store-path.ts'
import { parseNfsRoot } from '../../nixos/nfs-root.ts'
import type { System } from '../../nixos/system.ts'
import { limitTo, type Amount, type Limit } from './limit.ts'
import { refused } from './root-files.ts'
import type { Stage } from './stage.ts'

/** The image from which the machine has its files outside the store. */
export interface PublishImage {
  /** The hash of the manifest. */
  id: string
  manifest: Pick<Manifest, 'system' | 'options' | 'boot'>
  bootTree: string
  /** The ids of further images whose store paths the machine sees, the oldest first. */
  keptImages: readonly string[]
}

/** Several ways of booting have copies of the same kernel and initrd. */
const most = { files: 20_000, bytes: 3 * 1024 ** 3 }
/** Only smaller files of commands are read: loaders read menus of this size. */
const maxMenuBytes = 1 << 20

/** The file that may be from commands although netimage makes it as well: it names no system. */
const replaceable = 'config.txt'

export interface TreeTools {
  stage: Stage
  /** See `openPublishRoom`. */
  takeRoom: (amount: Amount) => void
  warn: (message: string) => void
}

export async function makeBootTree(
  tree: string,
  system: System,
  image: PublishImage,
  { stage, takeRoom, warn }: TreeTools,
): Promise<void> {
  const made = originOf(image)
  const settings: BootSettings = {
    deviceTree: made.deviceTree,
    uboot: made.fromSettings.includes(ubootName) ? join(image.bootTree, ubootName) : undefined,
    configTxt: made.configTxt,
    machines: made.machines,
  }
  const nfsRoot = parseNfsRoot(image.manifest.options.nfsRoot)
  const request = { system, nfsRoot, settings, find: stage.find, warn }
  // The stub of the image may be a file that the person who built the image named.
  if (made.ways.includes('uefi') && !(await findSystemStub(request))) {
    throw refused(
      'this machine’s image has boot files for UEFI, and the system has no stub of systemd for such files',
      newImageHint,
    )
  }
  // The files of settings come from the image.
  const files = (await bootFiles(made.ways, request)).filter(
    ({ content }) => content.kind !== 'copy' || content.storePath !== undefined,
  )
  const limit = limitTo(most, 'the boot files of the system', takeRoom)
  for (const file of files) limit.take(amountOf(file, stage))
  const own = new Set(files.map(({ path }) => path))
  await refuseMenusOfCommands(made, own, image)

  await mkdir(tree, { mode: 0o755 })
  // The kernel's device trees are used before the firmware's.
  await copyFromImage(
    made.fromSettings.filter((path) => !own.has(path)),
    tree,
    image,
    limit,
  )
  await writeBootTree(tree, files, limited(stage, limit))
  await copyFromImage(made.fromCommands, tree, image, limit)
}

const newImageHint =
  'Build an image of this system instead, and give it to the machine: netimage site add, then netimage site assign.'

function originOf({ manifest }: PublishImage): BootOrigin {
  const { made } = manifest.boot
  if (made === undefined) {
    throw refused(
      'the image of this machine does not record how its boot files were made',
      'Build the image again with this version of netimage, and assign it to the machine: netimage site add, then netimage site assign.',
    )
  }
  if (made.ways.length === 0) {
    throw refused(
      'the boot files of this machine’s image are all made by populateFirmwareCommands, and the server does not run these for a system of a machine',
      newImageHint,
    )
  }
  if (made.signed) {
    throw refused(
      'the boot files of this machine’s image are signed, and the server does not have the key',
      newImageHint,
    )
  }
  return made
}

function amountOf({ content }: BootFile, stage: Stage) {
  switch (content.kind) {
    case 'text':
      return { files: 1, bytes: Buffer.byteLength(content.text) }
    case 'parts':
      return { files: 1, bytes: content.parts.reduce((sum, part) => sum + partBytes(part), 0) }
    case 'copy':
      return stage.amountOf(content.storePath ?? '')
  }
}

/** Counts each target of a link: many links can lead to the same large file. */
function limited(stage: Stage, limit: Limit): Stage['find'] {
  return async (path) => {
    const found = await stage.find(path)
    if (found) limit.take(stage.amountOf(found.path))
    return found
  }
}

/**
 * A menu or a kernel that commands put into the image is for the system of the image. With another
 * system, the machine would boot the wrong one, or a kernel without its modules.
 */
async function refuseMenusOfCommands(
  { fromCommands }: BootOrigin,
  own: ReadonlySet<string>,
  { manifest, bootTree }: PublishImage,
): Promise<void> {
  const toplevel = toStorePath(manifest.system.toplevel)
  const mark = toplevel && hashPartOf(toplevel)
  for (const path of fromCommands) {
    const isReplaced = own.has(path) && path !== replaceable
    if (isReplaced || (mark && (await mentions(join(bootTree, path), mark)))) {
      throw refused(
        `populateFirmwareCommands made ${path} of this machine’s image, and this file is only for the system of the image`,
        newImageHint,
      )
    }
  }
}

async function mentions(file: string, mark: string): Promise<boolean> {
  const { size } = await stat(file)
  return size <= maxMenuBytes && (await readFile(file)).includes(mark)
}

async function copyFromImage(
  paths: readonly string[],
  tree: string,
  { bootTree }: PublishImage,
  limit: Limit,
): Promise<void> {
  for (const path of paths) {
    limit.take({ files: 1, bytes: (await stat(join(bootTree, path))).size })
  }
  const files = paths.map((path): BootFile => {
    return { path, content: { kind: 'copy', from: join(bootTree, path) } }
  })
  for (const { path } of files) await mkdir(join(tree, dirname(path)), { recursive: true })
  await writeBootTree(tree, files, () => Promise.resolve(undefined))
}
