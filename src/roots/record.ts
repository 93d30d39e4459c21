/** What is kept beside a layer: the image that it is over, and which of its contents is current. */
import { randomBytes } from 'node:crypto'
import { closeSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as v from 'valibot'

import { errnoOf, fileSystemError, isDiskFull, messageOf, NetimageError } from '../errors.ts'
import { openRegularFile } from '../open-safely.ts'
import { newerFormat, writer } from './format.ts'
import { giveToOwnerOf } from './owner.ts'
import { syncDirectory } from '../sync-directory.ts'

const format = 1

const recordSchema = v.object({
  /** Random, and another after a reset: the folder of the contents, and what handles are made with. */
  name: v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/)),
  machine: v.string(),
  image: v.object({
    /** Absolute. */
    directory: v.string(),
    name: v.string(),
    toplevel: v.string(),
    identity: v.string(),
  }),
  /** Milliseconds since 1970. */
  created: v.number(),
  lastUsed: v.number(),
})

export type LayerRecord = v.InferOutput<typeof recordSchema>

/** As it lies on the disk: other programs may have put more into it. */
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
  return new NetimageError('bad-state', `${file} is no record of a layer: ${messageOf(cause)}`, {
    cause,
    hint: 'Remove the layer, and let the machine boot again: netimage layers remove.',
  })
}

/**
 * In one step, and there after a loss of power: whatever is current is whole. What the record says
 * besides, of programs that know more, stays.
 */
export function writeRecord(directory: string, record: LayerRecord): void {
  const before = readDocument(directory)
  const image = { ...before?.image, ...record.image }
  const document = { ...before, ...record, image, format, writtenBy: writer }
  // Nobody can have put a link there, and what a killed process leaves is swept.
  const scratch = join(directory, `.new-record-${randomBytes(6).toString('hex')}`)
  const text = `${JSON.stringify(document, undefined, 2)}\n`
  writeFileSync(scratch, text, { flag: 'wx', mode: 0o600, flush: true })
  giveToOwnerOf(directory, scratch)
  renameSync(scratch, join(directory, recordFile))
  syncDirectory(directory)
}

/** When it was used last is worth no failure: a machine whose disk is full wants to remove things. */
export function noteUse(directory: string, record: LayerRecord): void {
  try {
    writeRecord(directory, record)
  } catch (error) {
    if (!isDiskFull(error)) throw error
  }
}

export function newName(): string {
  return randomBytes(16).toString('hex')
}
