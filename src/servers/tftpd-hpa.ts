/** tftpd-hpa, as Debian's `/etc/default/tftpd-hpa` sets it up: tftpd(8). */
import type { ServerPlan } from './plan.ts'

export function tftpdHpaConfiguration({ image, bootTree }: ServerPlan): string {
  return [
    `# tftpd-hpa for ${image}, by netimage.`,
    'TFTP_USERNAME="tftp"',
    `TFTP_DIRECTORY="${bootTree}"`,
    'TFTP_ADDRESS=":69"',
    'TFTP_OPTIONS="--secure --verbose"',
    '',
  ].join('\n')
}
