/** The first messages of a push. */
import { NetimageError } from '../../errors.ts'
import { version } from '../../version.ts'
import { badMessage } from './channel.ts'
import { pushVersion, type FromReceiver, type FromSender } from './messages.ts'

/** @throws `NetimageError` `remote-failed` if the other side has another version of push; `bad-message` */
export function mustBeOneOfThisVersion(first: FromSender | FromReceiver, other: string): void {
  if (first.kind !== 'hello') throw badMessage(other, `${first.kind} came in place of hello`)
  if (first.push === pushVersion) return
  const [theirs, ours] = [
    `${first.push} (netimage ${first.netimage})`,
    `${pushVersion} (${version})`,
  ]
  throw new NetimageError(
    'remote-failed',
    `${other} has version ${theirs} of push, and this netimage has version ${ours}`,
    {
      details: { expected: pushVersion, actual: first.push },
      hint: 'Update the older netimage of the two servers.',
    },
  )
}
