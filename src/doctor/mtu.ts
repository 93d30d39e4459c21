/** Whether the interface sends packets of the usual size. */
import * as v from 'valibot'

import { NetimageError } from '../errors.ts'
import type { ServedInterface } from '../protocols/interfaces.ts'
import { runProgram } from '../run-program.ts'
import type { DoctorFinding } from './finding.ts'

const usual = 1500

const schema = v.tuple([v.object({ mtu: v.number(), flags: v.array(v.string()) })])

export async function examineMtu(
  { name }: Pick<ServedInterface, 'name'>,
  signal: AbortSignal,
): Promise<DoctorFinding[]> {
  const link = await readLink(name, signal)
  if (!link) {
    return [
      {
        code: 'mtu',
        level: 'note',
        message: `cannot tell the MTU of ${name}: the program ip does not show it`,
        fix: `ip link show dev ${name}`,
      },
    ]
  }
  const { mtu, flags } = link
  if (mtu === usual || flags.includes('LOOPBACK')) return []
  const effect =
    mtu < usual
      ? 'firmware sends packets of up to 1500 bytes, which then may not arrive'
      : 'if the switch or a machine does not have the same MTU, large packets are lost, and loading or mounting hangs'
  return [
    {
      code: 'mtu',
      level: 'warning',
      message: `the MTU of ${name} is ${mtu} instead of ${usual}: ${effect}`,
      fix: `ip link set dev ${name} mtu ${usual}`,
    },
  ]
}

/** /sys may show another network namespace; the program ip always shows that of this process. */
async function readLink(name: string, signal: AbortSignal) {
  try {
    const args = ['-j', 'link', 'show', 'dev', name]
    const { stdout } = await runProgram('ip', args, { hint: 'Install iproute2.', signal })
    return v.parse(schema, JSON.parse(stdout))[0]
  } catch (error) {
    if (error instanceof NetimageError && error.code === 'interrupted') throw error
    return undefined
  }
}
