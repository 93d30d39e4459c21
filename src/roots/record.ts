/** The record beside a layer: its image, and which folder of contents is current. */
import { randomBytes } from 'node:crypto'
import { closeSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import * as v from 'valibot'

import { errnoOf, fileSystemError, isDiskFull, messageOf, NetimageError } from '../errors.ts'
import { openRegularFile } from '../open-safely.ts'
import { newerFormat, writer } from './format.ts'
import { boundImageSchema, keptImagesSchema, toDisk } from './bound-image.ts'
import { keptSchema } from './kept-files.ts'
import { giveToOwnerOf } from './owner.ts'
import { waitFor, type Steps } from './steps.ts'
import { syncDirectory, syncDirectorySoon } from '../sync-directory.ts'

const format = 1

const recordSchema = v.object({
  /** Random; a reset makes another. It names the folder of the contents and is part of handles. */
  name: v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/)),
  machine: v.string(),
  image: boundImageSchema,
  /**
   * The image that the layer was bound to before it was ever bound to another one. Snapshots that do
   * not name their image were taken before that. Absent: `image`.
   */
  firstImage: v.optional(boundImageSchema),
  /** Further images whose store paths the machine sees. */
  keptImages: v.optional(keptImagesSchema),
  /** What stayed at the last change of images although the image brought something else. */
  kept: v.optional(keptSchema),
  /** Milliseconds since 1970. */
  created: v.number(),
  lastUsed: v.number(),
})

export type LayerRecord = v.InferOutput<typeof recordSchema>

/** The file on the disk. Newer programs may have added more fields. */
const documentSchema = v.looseObject({
  image: v.optional(v.looseObject({})),
  /** Absent: 1. */
  format: v.optional(v.number()),
  writtenBy: v.optional(v.unknown()),
})

type Document = v.InferOutput<typeof documentSchema>

const recordFile = 'record.json'

/** @throws `NetimageError` `bad-state`, also for the record of a newer netimage */
export function readRecord(directory: string): LayerRecord | undefined {
  const document = readDocument(directory)
  if (!document) return undefined
  try {
    return v.parse(recordSchema, document)
  } catch (error) {
    throw broken(join(directory, recordFile), error)
  }
}

function readDocument(directory: string): Document | undefined {
  const file = join(directory, recordFile)
  const text = readIfThere(file)
  if (text === undefined) return undefined
  let document: Document
  try {
    document = v.parse(documentSchema, JSON.parse(text))
  } catch (error) {
    throw broken(file, error)
  }
  if ((document.format ?? format) > format) throw newerFormat(file, document.writtenBy)
  return document
}

function readIfThere(file: string): string | undefined {
  try {
    const descriptor = openRegularFile(file)
    try {
      return readFileSync(descriptor, 'utf8')
    } finally {
      closeSync(descriptor)
    }
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw fileSystemError(`could not read ${file}`, error)
  }
}

function broken(file: string, cause: unknown): NetimageError {
  return new NetimageError(
    'bad-state',
    `${file} is not a valid record of a layer: ${messageOf(cause)}`,
    {
      cause,
      details: { file },
      hint: 'Remove the layer with: netimage layers remove. Then boot the machine again.',
    },
  )
}

/**
 * Replaces the record in one step, and waits until it is on the disk. So the current record is
 * always whole. Fields that this program does not know stay.
 */
export function writeRecord(directory: string, record: LayerRecord): void {
  const text = documentOf(directory, record)
  const scratch = scratchIn(directory)
  try {
    writeFileSync(scratch, text, { flag: 'wx', mode: 0o600, flush: true })
    makeCurrent(directory, scratch)
  } catch (error) {
    rmSync(scratch, { force: true })
    throw error
  }
  syncDirectory(directory)
}

/** As `writeRecord`, but does not block. */
export async function writeRecordSoon(directory: string, record: LayerRecord): Promise<void> {
  const text = documentOf(directory, record)
  const scratch = scratchIn(directory)
  try {
    await writeFile(scratch, text, { flag: 'wx', mode: 0o600, flush: true })
    makeCurrent(directory, scratch)
  } catch (error) {
    rmSync(scratch, { force: true })
    throw error
  }
  await syncDirectorySoon(directory)
}

function documentOf(directory: string, record: LayerRecord): string {
  const before = readDocument(directory)
  const document = {
    ...before,
    ...record,
    image: { ...before?.image, ...toDisk(record.image) },
    ...(record.firstImage && { firstImage: toDisk(record.firstImage) }),
    ...(record.keptImages && { keptImages: record.keptImages.map(toDisk) }),
    ...{ format, writtenBy: writer },
  }
  return `${JSON.stringify(document, undefined, 2)}\n`
}

/** Nobody can know this name and put a link there. If this process is killed, the file is swept. */
function scratchIn(directory: string): string {
  return join(directory, `.new-record-${randomBytes(6).toString('hex')}`)
}

function makeCurrent(directory: string, scratch: string): void {
  giveToOwnerOf(directory, scratch)
  renameSync(scratch, join(directory, recordFile))
}

/** As `writeRecord`. */
export function writeRecordInSteps(directory: string, record: LayerRecord): Steps {
  return waitFor(
    () => writeRecord(directory, record),
    () => writeRecordSoon(directory, record),
  )
}

/** Does not fail on a full disk: the machine must still be able to boot and remove files. */
export function* noteUse(directory: string, record: LayerRecord): Steps {
  try {
    yield* writeRecordInSteps(directory, record)
  } catch (error) {
    if (!isDiskFull(error)) throw error
  }
}

/** Whether the records say the same, except when the layer was used. */
export function isSameRecord(one: LayerRecord, other: LayerRecord): boolean {
  return isDeepStrictEqual({ ...one, lastUsed: 0 }, { ...other, lastUsed: 0 })
}

export function newName(): string {
  return randomBytes(16).toString('hex')
}
