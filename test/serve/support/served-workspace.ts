// The files of a test with the smallest image for `netimage serve`.

import { after } from 'node:test'
import { makeWorkspace, type Workspace } from '../../support/workspace.ts'
import { buildServedImage } from './served-image.ts'

/** Both are removed after the tests of the file. Machines mount `/srv/test`. */
export async function servedWorkspace(
  name: string,
): Promise<{ workspace: Workspace; image: string }> {
  const workspace = makeWorkspace(name)
  after(() => workspace.remove())
  return { workspace, image: await buildServedImage(workspace, '127.0.0.1:/srv/test,v3') }
}
