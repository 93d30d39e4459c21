/** What the doctor finds: the form is that of `netimage check`, with a code instead of a rule. */
import type { CheckFinding, Level } from '../check/check-system.ts'
import type { NetimageError } from '../errors.ts'

/** Scripts match on these codes; docs/doctor.md explains each one. */
export const doctorCodes = [
  'interface',
  'nfs-root',
  'nfs-version',
  'already-served',
  'port-taken',
  'port-shared',
  'port-not-allowed',
  'port-unusable',
  'dhcp-server',
  'no-dhcp-server',
  'dhcp-unknown',
  'firewall',
  'firewall-unknown',
  'mtu',
  'state-disk',
  'state-room',
  'no-clones',
  'clock',
] as const

export type DoctorCode = (typeof doctorCodes)[number]

/**
 * - error: machines cannot boot from this server
 * - warning: some machines cannot, or something fails later
 * - note: what the person should know; also what cannot be told
 */
export interface DoctorFinding extends Omit<CheckFinding, 'rule' | 'path'> {
  code: DoctorCode
  level: Level
}

const order: Record<Level, number> = { error: 0, warning: 1, note: 2 }

export function errorsFirst(findings: readonly DoctorFinding[]): DoctorFinding[] {
  return findings.toSorted((a, b) => order[a.level] - order[b.level])
}

/** The failure that `serve` would end with. */
export function findingOf(code: DoctorCode, error: NetimageError): DoctorFinding {
  const { message, hint = 'See docs/errors.md.' } = error
  return { code, level: 'error', message, fix: hint }
}
