// Runs `netimage doctor` in a test's network.

import type { Host } from '../../e2e/support/network.ts'
import { cli } from '../../support/netimage.ts'
import { findingsIn, type Finding } from './findings.ts'

export type DoctorRun = {
  status: number
  findings: readonly Finding[]
  /** The findings with this code. */
  of: (code: Finding['code']) => Finding[]
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
  const findings = findingsIn(json)
  return {
    ...{ status: Number(status), findings },
    of: (code) => findings.filter((finding) => finding.code === code),
  }
}
