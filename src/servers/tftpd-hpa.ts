/** tftpd-hpa, as Debian's `/etc/default/tftpd-hpa` sets it up: tftpd(8). */
import { NetimageError } from '../errors.ts'
import type { ServerPlan } from './plan.ts'

export function tftpdHpaConfiguration({ image, bootTree }: ServerPlan): string {
  return [
    `# tftpd-hpa for ${image}, by netimage.`,
    'TFTP_USERNAME="tftp"',
    `TFTP_DIRECTORY=${quote(bootTree)}`,
    'TFTP_ADDRESS=":69"',
    'TFTP_OPTIONS="--secure --verbose"',
    '',
  ].join('\n')
}

/** The file is a shell's, and so is what starts the server: it splits and expands the value. */
function quote(path: string): string {
  const [found] = /[\s*?[\\]/.exec(path) ?? []
  if (found !== undefined) {
    const problem = `tftpd-hpa cannot be told of ${JSON.stringify(path)}`
    throw new NetimageError('bad-option', `${problem}: it has ${JSON.stringify(found)} in it`, {
      hint: 'Name the image by a symbolic link whose path has no blank, *, ?, [ and backslash.',
    })
  }
  return `'${path.replaceAll("'", String.raw`'\''`)}'`
}
