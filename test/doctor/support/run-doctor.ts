// Runs `netimage doctor` in a test's network.

import * as v from 'valibot'
import type { Host } from '../../e2e/support/network.ts'
import { cli } from '../../support/netimage.ts'

const findingsSchema = v.strictObject({
  findings: v.array(
    v.strictObject({
      code: v.string(),
      level: v.picklist(['error', 'warning', 'note']),
      message: v.string(),
      fix: v.pipe(v.string(), v.nonEmpty()),
    }),
  ),
})

export type Finding = v.InferOutput<typeof findingsSchema>['findings'][number]

export type DoctorRun = {
  status: number
  findings: readonly Finding[]
  /** The findings with this code. */
  of: (code: string) => Finding[]
}

/** @param through a command prefix */
export async function runDoctor(
  host: Host,
  flags: readonly string[],
  through: readonly string[] = [],
): Promise<DoctorRun> {
  const command = [...through, process.execPath, cli, 'doctor', ...flags, '--json']
  const script = '"$@"; echo "status $?"'
  const said = await host.run(['sh', '-c', script, 'sh', ...command])
  const [, json = '', status = ''] = /^([^]*)status (\d+)\n$/.exec(said) ?? []
  const { findings } = v.parse(findingsSchema, JSON.parse(json))
  return {
    ...{ status: Number(status), findings },
    of: (code) => findings.filter((finding) => finding.code === code),
  }
}
