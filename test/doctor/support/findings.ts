// The findings of the doctor, as `--json` prints them.

import * as v from 'valibot'
import { doctorCodes } from '../../../src/doctor/finding.ts'

const text = v.pipe(v.string(), v.nonEmpty())

export const findingsSchema = v.array(
  v.strictObject({
    code: v.picklist(doctorCodes),
    level: v.picklist(['error', 'warning', 'note']),
    message: text,
    fix: v.optional(text),
    hint: v.optional(text),
  }),
)

export type Finding = v.InferOutput<typeof findingsSchema>[number]

const printedSchema = v.strictObject({ findings: findingsSchema })

/** @param json what the command prints */
export function findingsIn(json: string): Finding[] {
  return v.parse(printedSchema, JSON.parse(json)).findings
}
