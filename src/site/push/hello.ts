/** The first messages of a push. */
import { NetimageError } from '../../errors.ts'
import { version } from '../../version.ts'
import { mustBe } from './channel.ts'
import { pushVersion, type FromReceiver, type FromSender } from './messages.ts'

/** @throws `NetimageError` `remote-failed` if the other server has another version of push; `bad-message` */
export function mustBeOneOfThisVersion(first: FromSender | FromReceiver, other: string): void {
  const { push, netimage } = mustBe(first, 'hello', other)
  if (push === pushVersion) return
  const [theirs, ours] = [`${push} (netimage ${netimage})`, `${pushVersion} (${version})`]
  throw new NetimageError(
    'remote-failed',
    `${other} has version ${theirs} of push, and this netimage has version ${ours}`,
    {
      details: { expected: pushVersion, actual: push },
      hint: 'Update the older netimage of the two servers.',
    },
  )
}
