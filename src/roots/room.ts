/** The room that a layer may take: on its disk, and of its limit if it has one. */
import type { Space } from '../protocols/nfs/file-system.ts'
import { guarded, isFull } from './failure.ts'
import { openFloor, spaceAboveFloor } from './floor.ts'
import { openLimit, type Taken } from './limit.ts'

/** All `take…` are to be called before the room is taken. They throw `ENOSPC` if it is too much. */
export interface Room {
  /** Data of files, and new files. */
  take(bytes: number, files?: number): void
  /** A copy of an image's file that may share its data with the image. */
  takeShared(bytes: number): void
  /** A new name, or the first row of a node of the image. */
  takeName(): void
  /**
   * Data that a machine writes. If there is no room, the machine may still overwrite data.
   *
   * @param overwrites whether the data takes the place of other data; called only if needed
   */
  takeToWrite(bytes: number, overwrites: () => boolean): void
  space(): Space
}

/** About the room that a new name or a changed node takes in the database and its log. */
const nameBytes = 8192

export interface RoomSettings {
  /** The directory of the layer. */
  directory: string
  /** The most bytes that the layer may take on the disk; undefined: no limit. */
  most: number | undefined
  measure: () => Taken
}

export function openRoom({ directory, most, measure }: RoomSettings): Room {
  const floor = openFloor(directory)
  const limit = most === undefined ? undefined : openLimit(most, () => guarded(measure))

  return {
    take(bytes, files) {
      floor.take(bytes, files)
      limit?.take(bytes, 0)
    },
    takeShared: (bytes) => limit?.take(bytes, 0),
    takeName() {
      floor.take(nameBytes)
      limit?.take(0, nameBytes)
    },
    takeToWrite(bytes, overwrites) {
      try {
        floor.take(bytes + nameBytes)
        limit?.take(bytes, nameBytes)
      } catch (error) {
        if (!isFull(error) || !overwrites()) throw error
      }
    },
    space() {
      const disk = guarded(() => spaceAboveFloor(directory))
      return limit ? limit.within(disk) : disk
    },
  }
}
