/** Whether the clock is right: certificates, leases and the registration of store paths need it. */
import type { DoctorFinding } from './finding.ts'

/** Older than each release of netimage. */
const longAgo = Date.UTC(2024, 0, 1)
/** Clocks are set in small steps; such a difference harms nothing. */
const toleratedMs = 60_000

/** @param images when each image was last changed on this computer. Milliseconds since 1970 */
export function examineClock(
  images: readonly { image: string; changedMs: number }[],
  now = Date.now(),
): DoctorFinding[] {
  const shown = new Date(now).toISOString()
  const later = images.find(({ changedMs }) => changedMs > now + toleratedMs)
  const why =
    now < longAgo
      ? 'which is before 2024'
      : later && `but ${later.image} was made later, at ${new Date(later.changedMs).toISOString()}`
  if (why === undefined) return []
  return [
    {
      code: 'clock',
      level: 'warning',
      message: `the clock of this computer shows ${shown}, ${why}: certificates, leases and the registration of store paths go wrong with it`,
      fix: 'timedatectl set-ntp true',
    },
  ]
}
