/** Whether machines can have their roots from a site: its server has only NFS version 3. */
import { NetimageError } from '../../errors.ts'
import type { SettledOptions } from '../../image/options.ts'
import { parseNfsRoot } from '../../nixos/nfs-root.ts'

/**
 * Refuses an image whose root machines would mount in another way than this server serves roots.
 *
 * @param image its name in the error
 * @throws `NetimageError` `bad-option`
 */
export function mustBeServable(options: SettledOptions, image: string): void {
  const { version } = parseNfsRoot(options.nfsRoot)
  if (version === undefined || version.startsWith('3')) return
  throw new NetimageError(
    'bad-option',
    `machines would mount the root of ${image} with NFS version ${version}, but \`netimage serve\` has only version 3`,
    {
      hint: 'Build the image with version 3 in its nfsRoot, as in 10.0.0.5:/srv/nixos,v3. Or serve its root with another NFS server: see docs/servers.md.',
    },
  )
}
