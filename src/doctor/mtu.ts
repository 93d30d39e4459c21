/** Whether the interface sends packets of the usual size. */
import * as v from 'valibot'

import type { ServedInterface } from '../protocols/interfaces.ts'
import type { DoctorFinding } from './finding.ts'
import { ask } from './program.ts'

const usual = 1500

/** What `ip -j link show` prints of one interface. */
const schema = v.pipe(
  v.string(),
  v.parseJson(),
  v.tuple([v.object({ mtu: v.number(), flags: v.array(v.string()) })]),
)

export async function examineMtu(
  { name }: Pick<ServedInterface, 'name'>,
  signal: AbortSignal,
): Promise<DoctorFinding[]> {
  // /sys may show another network namespace; the program ip always shows that of this process.
  const said = await ask('ip', ['-j', 'link', 'show', 'dev', name], signal)
  if (said.kind === 'missing') {
    return [cannotTell(name, 'the program ip is not installed', 'Install iproute2.')]
  }
  if (said.kind === 'refused') return [cannotTell(name, `the program ip says: ${said.why}`)]
  const link = linkIn(said.text)
  if (!link) return [cannotTell(name, 'the program ip prints no JSON that can be read')]
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

function cannotTell(name: string, why: string, hint?: string): DoctorFinding {
  const message = `cannot tell the MTU of ${name}: ${why}`
  return { code: 'mtu', level: 'note', message, hint }
}

function linkIn(text: string): { mtu: number; flags: string[] } | undefined {
  const parsed = v.safeParse(schema, text)
  return parsed.success ? parsed.output[0] : undefined
}
