/**
 * The files that an image brings outside its store paths. They are walked when they are opened. All
 * roots over the image share them.
 */
import { closeSync, constants, fstatSync, lstatSync, openSync, type Dirent } from 'node:fs'
import { join } from 'node:path'

import { storeDir } from '../nix/store-path.ts'
import { liesBelow, pathOfDescriptor } from '../open-safely.ts'
import { damaged } from './image-damage.ts'
import { childOf, column, rowStart, structureInSteps, type ImageTable } from './image-table.ts'
import type { RootImage } from './root-image.ts'
import { doNow, type Steps } from './steps.ts'
import { walkInSteps, type Owner } from './walk-tree.ts'

export interface OutsideFiles {
  files: ImageTable
  structure: string
  owner: Owner
  /** The node of /nix/store; undefined if there is no such directory. */
  store: number | undefined
  /** The directory, held open. */
  top: number
  /** A path to the directory that stays valid. */
  held: string
  /** The store paths in the tree: whether each is a directory, by the names. */
  inTree: ReadonlyMap<string, boolean>
  /** Opens the directory of the store paths in the tree. The caller closes it. */
  holdStore(): number
  /** Walks all files, with the store paths of the image. */
  walkWhole(): Steps<ImageTable>
  close(): void
}

const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants

/** @throws `NetimageError` `image-damaged`, or a system error */
export function openOutsideFiles(image: RootImage): OutsideFiles {
  return doNow(openOutsideInSteps(image))
}

/** As `openOutsideFiles`. */
export function* openOutsideInSteps(image: RootImage): Steps<OutsideFiles> {
  const { outside: root } = image
  using unfinished = new DisposableStack()
  // Held open: if another tree gets the name, only the files of this tree are still found.
  const top = unfinished.adopt(openSync(root, O_RDONLY), (file) => closeSync(file))
  // The dot makes lstat(2) look at the directory, not at the descriptor's link.
  const held = `${pathOfDescriptor(top) ?? root}/.`
  const owner = lstatSync(held, { bigint: true })
  const ofImage = new Set(
    image.storePaths
      .filter(({ name, at }) => at === `${root}${storeDir}/${name}`)
      .map(({ name }) => name),
  )
  const inTree = new Map<string, boolean>()
  const storeInTree = Buffer.from(held + storeDir)
  const files = yield* walkInSteps(Buffer.from(held), {
    ...{ owner, mergesLinks: true },
    leavesOutOf: (directory) => (directory.equals(storeInTree) ? isOfImage : undefined),
  })
  const structure = yield* structureInSteps(files)
  const store = findStore()

  function isOfImage(entry: Dirent): boolean {
    if (!ofImage.has(entry.name)) return false
    inTree.set(entry.name, entry.isDirectory())
    return true
  }

  function findStore(): number | undefined {
    let node: number | undefined = 1
    for (const name of storeDir.split('/').filter(Boolean)) {
      node = node && childOf(files, node, Buffer.from(name))
    }
    return node
  }

  const opened = unfinished.move()
  return {
    ...{ files, structure, owner, store, top, held, inTree },
    holdStore() {
      // The held tree and the store in it may be renamed, and links may get their names.
      const directory = openSync(join(held, storeDir), O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
      const { ino } = fstatSync(directory, { bigint: true })
      const walked = store === undefined ? undefined : files.rows[rowStart(store) + column.inode]
      if (walked === Number(ino) && liesBelow(directory, top)) return directory
      closeSync(directory)
      throw damaged(`${root}${storeDir}`, 'it is another directory')
    },
    walkWhole() {
      const elsewhere = image.storePaths
        .filter(({ name }) => !ofImage.has(name))
        .map(({ name, at }) => ({ name: Buffer.from(name), at: Buffer.from(at) }))
      const adds = (path: Buffer) => (path.equals(storeInTree) ? elsewhere : [])
      return walkInSteps(Buffer.from(held), { owner, mergesLinks: true, adds })
    },
    close: () => opened.dispose(),
  }
}
