/** Reads a plan that `netimage site plan --json` has printed. */
import * as v from 'valibot'

import { NetimageError } from '../../errors.ts'

const machineSchema = v.looseObject({
  machine: v.string(),
  name: v.exactOptional(v.string()),
  current: v.exactOptional(v.number()),
  lastGood: v.exactOptional(v.number()),
  change: v.picklist(['nothing', 'new', 'back', 'refused']),
  isHeld: v.exactOptional(v.literal(true)),
})

const groupSchema = v.looseObject({
  name: v.string(),
  image: v.looseObject({ id: v.string() }),
  machines: v.array(machineSchema),
  rollout: v.exactOptional(v.looseObject({ number: v.number(), state: v.string() })),
})

const planSchema = v.looseObject({
  version: v.literal(1),
  digest: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
  groups: v.array(groupSchema),
  ...{ names: v.array(v.unknown()), ends: v.array(v.unknown()), moves: v.array(v.unknown()) },
  declarations: v.array(v.unknown()),
})

/** What is read of a plan to compare it with another one. */
export type ReadPlan = v.InferOutput<typeof planSchema>

/** @param file as the person named it @throws `NetimageError` `bad-option` */
export function readPlan(text: string, file: string): ReadPlan {
  try {
    return v.parse(planSchema, JSON.parse(text))
  } catch (error) {
    throw new NetimageError('bad-option', `${file} is not a plan`, {
      cause: error,
      details: { field: '--plan', file },
      hint: 'Give a file with the output of: netimage site plan --json.',
    })
  }
}
