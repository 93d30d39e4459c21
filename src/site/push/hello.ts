/** The first messages of a push. */
import { NetimageError } from '../../errors.ts'
import { version } from '../../version.ts'
import { mustBe, type ToReceiver, type ToSender } from './channel.ts'
import { pushVersion } from './messages.ts'

/**
 * Says the version of this server, and reads that of the other one.
 *
 * @param other the other server, for errors
 * @throws `NetimageError` as `message` of the channel; `remote-failed` if the other server has another
 *   version of push
 */
export async function greet(channel: ToReceiver | ToSender, other: string): Promise<void> {
  await channel.say({ kind: 'hello', push: pushVersion, netimage: version })
  const { push, netimage } = mustBe(await channel.message(), 'hello', other)
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
