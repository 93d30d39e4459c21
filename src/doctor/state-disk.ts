/** Room and kind of the file system of the state directory: layers and images are on it. */
import { closeSync, constants, copyFileSync, openSync, statfsSync, statSync } from 'node:fs'
import { dirname } from 'node:path'

import { errnoOf, messageOf } from '../errors.ts'
import type { DoctorFinding } from './finding.ts'

const leastBytes = 2 ** 30
const leastFiles = 10_000

/** The numbers of statfs(2). */
const unfit: ReadonlyMap<number, { kind: string; why: string }> = new Map([
  [0x6969, { kind: 'NFS', why: 'locks and databases are slow or unsafe there' }],
  [0x01021994, { kind: 'tmpfs', why: 'it is in memory, and gone at the next start' }],
  [0x858458f6, { kind: 'ramfs', why: 'it is in memory, and gone at the next start' }],
])

/** Not in Node's constants. With `O_DIRECTORY`, open(2) makes a file that never has a name. */
const unnamedFile = 0o20000000 | constants.O_DIRECTORY

/** @param state may not exist yet: then the directory that it would be made in is examined */
export function examineStateDisk(state: string): DoctorFinding[] {
  const fix = 'netimage serve --state DIRECTORY'
  try {
    const directory = existingDirectory(state)
    return [...examineKind(state, directory, fix), ...examineRoom(state, directory, fix)]
  } catch (error) {
    const message = `cannot tell about the disk of the state directory ${state}: ${messageOf(error)}`
    return [{ code: 'state-disk', level: 'note', message }]
  }
}

function existingDirectory(state: string): string {
  const found = statSync(state, { throwIfNoEntry: false })
  if (found?.isDirectory() || dirname(state) === state) return state
  return existingDirectory(dirname(state))
}

function examineKind(state: string, directory: string, fix: string): DoctorFinding[] {
  const kind = unfit.get(statfsSync(directory).type)
  if (kind) {
    const message = `the state directory ${state} is on ${kind.kind}: ${kind.why}`
    return [{ code: 'state-disk', level: 'warning', message, fix }]
  }
  const clones = canClone(directory)
  if (clones === true) return []
  const says =
    clones === false
      ? `the file system of the state directory ${state} cannot clone files, so the server takes no snapshots by itself, and a machine that writes to a file of the image first waits until the whole file is copied`
      : `cannot tell whether the file system of the state directory ${state} can clone files: ${clones.why}`
  const hint = 'DIRECTORY must be on a file system that can clone files, such as Btrfs or XFS.'
  return [{ code: 'no-clones', level: 'note', message: says, fix, hint }]
}

function examineRoom(state: string, directory: string, fix: string): DoctorFinding[] {
  const { bsize, blocks, bavail, files, ffree } = statfsSync(directory)
  const few: DoctorFinding[] = []
  const add = (what: string) => {
    few.push({
      code: 'state-room',
      level: 'warning',
      message: `the disk of the state directory ${state} has room for only ${what}`,
      fix,
      hint: 'DIRECTORY must be on a disk with more room. Or make room on this one.',
    })
  }
  // Some file systems do not tell how many bytes (FUSE) or files (Btrfs) they can hold.
  const mebibytes = Math.floor((bavail * bsize) / 2 ** 20)
  if (blocks > 0 && bavail * bsize < leastBytes) add(`${mebibytes} MiB`)
  if (files > 0 && ffree < leastFiles) add(`${ffree} more files (inodes)`)
  return few
}

/** Tries it with two files that have no names, so that nothing can be left behind. */
function canClone(directory: string): boolean | { why: string } {
  using files = new DisposableStack()
  const open = () => {
    const file = openSync(directory, unnamedFile | constants.O_RDWR, 0o600)
    files.defer(() => closeSync(file))
    return `/proc/self/fd/${file}`
  }
  try {
    const [from, to] = [open(), open()]
    try {
      copyFileSync(from, to, constants.COPYFILE_FICLONE_FORCE)
      return true
    } catch (error) {
      if (errnoOf(error) === 'ENOSPC') throw error
      return false
    }
  } catch (error) {
    return { why: messageOf(error) }
  }
}
