// The steps that change the disk. A test sees each before it is done, and can copy the files as a
// kill would leave them, or let the step fail.

import fs from 'node:fs'
import promises from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import {
  DatabaseSync,
  StatementSync,
  type SQLInputValue,
  type StatementResultingChanges,
} from 'node:sqlite'
import { mock } from 'node:test'

export type DiskStep =
  | 'clone'
  | 'copy'
  | 'link'
  | 'symlink'
  | 'mkdir'
  | 'fsync'
  | 'fdatasync'
  | 'rename'
  | 'remove'
  | 'write'
  | 'SQL'
  | 'close'

let beforeStep = (_step: DiskStep) => {}
let isInAction = false

/** @param action is called before each step. What it throws is the failure of the step. Default: nothing */
export function beforeDiskSteps(action: (step: DiskStep) => void = () => {}): void {
  beforeStep = action
}

/** The steps of the action itself are not announced. */
function announce(step: DiskStep): void {
  if (isInAction) return
  isInAction = true
  try {
    beforeStep(step)
  } finally {
    isInAction = false
  }
}

const { copyFile } = promises
mock.method(promises, 'copyFile', (...given: Parameters<typeof copyFile>) => {
  announce('clone')
  return copyFile(...given)
})
const { copyFileSync, linkSync, symlinkSync, mkdirSync } = fs
const { fsyncSync, fdatasyncSync, renameSync, unlinkSync, rmdirSync, writeFileSync } = fs
mock.method(fs, 'copyFileSync', (...given: Parameters<typeof copyFileSync>) => {
  announce('copy')
  copyFileSync(...given)
})
mock.method(fs, 'linkSync', (...given: Parameters<typeof linkSync>) => {
  announce('link')
  linkSync(...given)
})
mock.method(fs, 'symlinkSync', (...given: Parameters<typeof symlinkSync>) => {
  announce('symlink')
  symlinkSync(...given)
})
mock.method(fs, 'mkdirSync', (path: string, options: fs.MakeDirectoryOptions) => {
  announce('mkdir')
  return mkdirSync(path, options)
})
mock.method(fs, 'fsyncSync', (...given: Parameters<typeof fsyncSync>) => {
  announce('fsync')
  fsyncSync(...given)
})
await using any = await promises.open(import.meta.filename)
const handles: Pick<promises.FileHandle, 'sync'> = Object.getPrototypeOf(any)
// It is called with `this` below.
/* oxlint-disable-next-line typescript/unbound-method */
const { sync } = handles
mock.method(handles, 'sync', function (this: promises.FileHandle) {
  announce('fsync')
  return sync.apply(this)
})
mock.method(fs, 'fdatasyncSync', (...given: Parameters<typeof fdatasyncSync>) => {
  announce('fdatasync')
  fdatasyncSync(...given)
})
mock.method(fs, 'renameSync', (...given: Parameters<typeof renameSync>) => {
  announce('rename')
  renameSync(...given)
})
mock.method(fs, 'unlinkSync', (...given: Parameters<typeof unlinkSync>) => {
  announce('remove')
  unlinkSync(...given)
})
mock.method(fs, 'rmdirSync', (path: fs.PathLike) => {
  announce('remove')
  rmdirSync(path)
})
mock.method(fs, 'writeFileSync', (...given: Parameters<typeof writeFileSync>) => {
  announce('write')
  writeFileSync(...given)
})
syncBuiltinESMExports()
// They are called with `this` below.
/* oxlint-disable typescript/unbound-method */
const runStatement: (...values: SQLInputValue[]) => StatementResultingChanges =
  StatementSync.prototype.run
const closeDatabase: () => void = DatabaseSync.prototype.close
/* oxlint-enable typescript/unbound-method */
mock.method(
  StatementSync.prototype,
  'run',
  function (this: StatementSync, ...values: SQLInputValue[]) {
    announce('SQL')
    return runStatement.apply(this, values)
  },
)
mock.method(DatabaseSync.prototype, 'close', function (this: DatabaseSync) {
  announce('close')
  closeDatabase.apply(this)
})
