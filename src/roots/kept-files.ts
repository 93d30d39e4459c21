/** What stays on a machine although an image brings something else. */
import * as v from 'valibot'

import { escapeBytes } from '../tree-files.ts'

const differences = [
  /** The machine and the image have changed the file. */
  'changed-both',
  /** The machine has removed the file, and the image has changed it or brings it anew. */
  'removed-here',
  /** The machine and the image have made something with this name. */
  'added-both',
  /** The machine has changed the file, and the image does not have it any more. */
  'gone-from-image',
  /**
   * A name that the machine gave to a file of an image that is missing: the name is gone. Or it gave the
   * name to a directory, and what the image had in the directory is gone.
   */
  'lost',
] as const

const keptFileSchema = v.object({
  /** Bytes that are not UTF-8 are shown as `escapeBytes` does it. */
  path: v.string(),
  why: v.picklist(differences),
})

type KeptFile = v.InferOutput<typeof keptFileSchema>

export const keptSchema = v.object({
  files: v.array(keptFileSchema),
  /** How many further files there are. */
  more: v.number(),
})

export type KeptFiles = v.InferOutput<typeof keptSchema>

/** The most files that are named. The others are counted. */
const mostNamed = 200

/** Gathers what stays. */
export interface Kept {
  /** @param path called only for a file that is named */
  tell(why: KeptFile['why'], path: () => Buffer): void
  all(): KeptFiles
}

export function createKept(): Kept {
  const files: KeptFile[] = []
  let more = 0
  return {
    tell(why, path) {
      if (files.length < mostNamed) files.push({ path: escapeBytes(path()), why })
      else more++
    },
    all: () => ({ files, more }),
  }
}

/** @param before what was told earlier and is still true */
export function addKept(kept: KeptFiles, before: KeptFiles): KeptFiles {
  const all = [...kept.files, ...before.files]
  const files = all.slice(0, mostNamed)
  return { files, more: kept.more + before.more + all.length - files.length }
}
