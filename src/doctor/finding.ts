/** What the doctor finds. */
import type { Level } from '../check/check-system.ts'
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
export interface DoctorFinding {
  code: DoctorCode
  level: Level
  /** What was seen, and its effect: a sentence without a full stop. */
  message: string
  /** What mends it: commands for a shell, or lines for the configuration of NixOS. */
  fix?: string | undefined
  /** What the person can do if no command is known that mends it, or instead: whole sentences. */
  hint?: string | undefined
}

/** Only root may read the rules of the firewall, and listen on low ports. */
export const runAsRoot = 'Run netimage doctor as root, with the same flags.'

const order: Record<Level, number> = { error: 0, warning: 1, note: 2 }

export function errorsFirst(findings: readonly DoctorFinding[]): DoctorFinding[] {
  return findings.toSorted((a, b) => order[a.level] - order[b.level])
}

/** The failure that `serve` would end with. */
export function findingOf(code: DoctorCode, error: NetimageError): DoctorFinding {
  return { code, level: 'error', message: error.message, hint: error.hint }
}
