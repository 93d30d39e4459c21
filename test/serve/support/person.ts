// What a person does in a site, without the commands.

import assert from 'node:assert/strict'
import { candidateOf } from '../../../src/site/candidate.ts'
import { openSiteDatabase } from '../../../src/site/database.ts'
import { addImage } from '../../../src/site/images/add-image.ts'
import { decide } from '../../../src/site/life/choose.ts'
import type { Candidate, Generation } from '../../../src/site/life/life.ts'

/** Adds an image that `build` made. @returns what a machine can be given */
export async function addTo(state: string, directory: string): Promise<Candidate> {
  const { image } = await addImage(state, directory)
  try {
    return await candidateOf(image)
  } finally {
    image.release()
  }
}

/** Says that what the machine boots next is good. */
export function sayGood(state: string, machine: string): Generation {
  const database = openSiteDatabase(state)
  try {
    return database.change((writer) => {
      const decided = decide(writer.of(machine), undefined, 'good') ?? assert.fail()
      writer.keep(decided.life)
      return decided.generation
    })
  } finally {
    database.close()
  }
}
