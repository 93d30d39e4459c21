/** Sends a store path of a site as a NAR. */
import { createHash } from 'node:crypto'

import { NetimageError } from '../../errors.ts'
import { formatHash } from '../../nix/hash.ts'
import { narChunks } from '../../nix/nar/dump.ts'
import type { PathInfo } from '../../nix/path-info.ts'
import type { ToReceiver } from './channel.ts'

/**
 * @param tree the store path in the site
 * @param sent gets the number of bytes of each piece
 * @throws `NetimageError` `image-damaged` if the tree is not as the manifest says
 */
export async function sendPath(
  info: PathInfo,
  tree: string,
  channel: ToReceiver,
  sent: (bytes: number) => void,
): Promise<void> {
  const { narHash, narSize } = info
  await channel.say({ kind: 'path', narHash: formatHash(narHash) })
  const hash = createHash('sha256')
  let size = 0
  for (const chunk of narChunks(tree)) {
    size += chunk.length
    if (size > narSize) throw damaged(info, tree)
    hash.update(chunk)
    await channel.give(chunk)
    sent(chunk.length)
  }
  // The other server finds this as well, but does not know whose fault it is.
  if (size !== narSize || hash.digest('hex') !== narHash.hex) throw damaged(info, tree)
}

function damaged({ path }: PathInfo, tree: string): NetimageError {
  return new NetimageError(
    'image-damaged',
    `${path} has changed in this site: ${tree} has not the NAR hash and size of its manifest`,
    {
      details: { path, file: tree },
      hint: 'Stop the server, repair the image from the directory that it was added from, and push again: netimage site add --repair DIR.',
    },
  )
}
