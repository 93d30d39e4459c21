/** Looks for secrets in a tree while it is unpacked, so that nobody has to read it again for that. */
import type { NarVisitor } from '../nix/nar/parse.ts'
import {
  findSecret,
  isPublishedFolder,
  isSearchedSize,
  maxSecretFileBytes,
  type TreeSecret,
} from '../secrets.ts'
import { maxKeptSecrets } from './entry.ts'

export interface SearchedNar extends NarVisitor {
  /**
   * The secrets in the whole tree, after its end. Undefined if there are too many to be kept, or if
   * the tree is a single file: then they depend on the name of the store path as well.
   */
  secrets(): TreeSecret[] | undefined
}

/** Passes a NAR on to a visitor, and searches its small files. */
export function searchNar(visitor: NarVisitor): SearchedNar {
  const held = Buffer.allocUnsafeSlow(maxSecretFileBytes)
  /** The names of the open directories below the root, outermost first. */
  const folders: string[] = []
  const secrets: TreeSecret[] = []
  /** The number of open directories from the outermost published one on. */
  let published = 0
  /** Whether the root is a directory. */
  let isTree = false
  /** The name of the file that is searched. */
  let file: string | undefined
  let filled = 0

  function search(name: string, content: Buffer): void {
    const kind = findSecret(name, content)
    if (kind && secrets.length <= maxKeptSecrets) {
      secrets.push({ path: [...folders, name].join('/'), kind })
    }
  }

  return {
    directory(name) {
      visitor.directory(name)
      if (!isTree) isTree = true
      else {
        const text = name.toString()
        folders.push(text)
        if (published > 0 || isPublishedFolder(text)) published++
      }
    },
    directoryEnd() {
      visitor.directoryEnd()
      folders.pop()
      if (published > 0) published--
    },
    symlink: (name, target) => visitor.symlink(name, target),
    file(name, executable, size) {
      visitor.file(name, executable, size)
      file = isTree && published === 0 && isSearchedSize(size) ? name.toString() : undefined
      filled = 0
    },
    data(chunk) {
      visitor.data(chunk)
      if (file !== undefined) filled += chunk.copy(held, filled)
    },
    fileEnd() {
      visitor.fileEnd()
      if (file !== undefined) search(file, held.subarray(0, filled))
    },
    secrets: () => (isTree && secrets.length <= maxKeptSecrets ? secrets : undefined),
  }
}
