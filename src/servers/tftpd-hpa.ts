/** tftpd-hpa in the form of Debian's `/etc/default/tftpd-hpa`: tftpd(8). */
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

/** A shell reads this file. The script that starts the server then splits and expands the value. */
function quote(path: string): string {
  const [found] = /[\s*?[\\]/.exec(path) ?? []
  if (found !== undefined) {
    const problem = `tftpd-hpa cannot serve ${JSON.stringify(path)}`
    throw new NetimageError('bad-option', `${problem}: the path has ${JSON.stringify(found)}`, {
      hint: 'Name the image by a symbolic link whose path has no blank, *, ?, [ or backslash.',
    })
  }
  return `'${path.replaceAll("'", String.raw`'\''`)}'`
}
