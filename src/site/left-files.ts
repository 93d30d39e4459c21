/** How many files the last change of images left as a machine had them. */
import { NetimageError } from '../errors.ts'
import { readRecord } from '../roots/record.ts'
import { layerOf } from '../roots/stored-layer.ts'

export interface LeftFiles {
  leftFiles: number
  /** Why this is not known. */
  layerProblem?: string
}

export function countLeftFiles(state: string, machine: string): LeftFiles {
  try {
    const kept = readRecord(layerOf(state, machine).directory)?.kept
    return { leftFiles: kept ? kept.files.length + kept.more : 0 }
  } catch (error) {
    // The life of the machine can be shown all the same.
    if (!(error instanceof NetimageError)) throw error
    return { leftFiles: 0, layerProblem: error.message }
  }
}
