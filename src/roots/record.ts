/** What is kept beside a layer: the image that it is over, and which of its contents is current. */
import { randomBytes } from 'node:crypto'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import * as v from 'valibot'

import { errnoOf, isDiskFull, messageOf, NetimageError } from '../errors.ts'
import { giveToOwnerOf } from './owner.ts'
import { syncDirectory } from '../sync-directory.ts'

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

const recordFile = 'record.json'

/** @throws `NetimageError` `bad-state` */
export function readRecord(directory: string): LayerRecord | undefined {
  const file = join(directory, recordFile)
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw error
  }
  try {
    return v.parse(recordSchema, JSON.parse(text))
  } catch (error) {
    throw new NetimageError('bad-state', `${file} is no record of a layer: ${messageOf(error)}`, {
      cause: error,
      hint: 'Remove the layer, and let the machine boot again: netimage layers remove.',
    })
  }
}

/** In one step, and there after a loss of power: whatever is current is whole. */
export function writeRecord(directory: string, record: LayerRecord): void {
  const file = join(directory, recordFile)
  writeFileSync(`${file}.new`, `${JSON.stringify(record, undefined, 2)}\n`, { flush: true })
  giveToOwnerOf(directory, `${file}.new`)
  renameSync(`${file}.new`, file)
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
