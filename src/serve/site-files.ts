/** What the site gives a machine when it starts. */
import { explained, type NetimageError } from '../errors.ts'
import type { SiteFiles } from '../roots/bind-site-files.ts'
import { filesOfHostKey } from '../site/host-key/in-root.ts'
import type { Site } from '../site/site.ts'

export interface SiteFilesSettings {
  site: Pick<Site, 'hostKeyOf' | 'nameOf'>
  onError: (error: NetimageError) => void
}

/** The function that it returns throws `NetimageError` if the site cannot be read. */
export function createSiteFiles({ site, onError }: SiteFilesSettings) {
  return (machine: string): SiteFiles => {
    const hostKey = site.hostKeyOf(machine)
    const name = site.nameOf(machine) ?? machine
    return {
      ifMissing: hostKey ? filesOfHostKey(hostKey, name) : [],
      onProblem: (error) => onError(explained(error, `${name}: ${error.message}`, {}, error.hint)),
    }
  }
}
