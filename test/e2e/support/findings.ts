// Runs `netimage check` on an image, as on the command line.

import * as v from 'valibot'
import { netimage } from '../../support/netimage.ts'

const schema = v.object({
  findings: v.array(v.object({ rule: v.string(), level: v.string(), fix: v.string() })),
})

export type Finding = v.InferOutput<typeof schema>['findings'][number]

/** @returns the findings, by the names of their rules */
export async function findingsOf(image: string): Promise<Map<string, Finding>> {
  const run = await netimage(['check', image, '--json'])
  const { findings } = v.parse(schema, JSON.parse(run.stdout))
  return new Map(findings.map((finding) => [finding.rule, finding]))
}
