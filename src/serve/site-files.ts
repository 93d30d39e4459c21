/** What the site gives a machine when it starts. */
import { explained, type NetimageError } from '../errors.ts'
import { remember } from '../remember.ts'
import type { SiteFiles } from '../roots/bind-site-files.ts'
import { filesOfHostKey } from '../site/host-key/in-root.ts'
import { readSecrets } from '../site/machine-secrets.ts'
import type { Site } from '../site/site.ts'

export interface SiteFilesSettings {
  state: string
  site: Pick<Site, 'hostKeyOf' | 'nameOf'>
  onError: (error: NetimageError) => void
}

/** A problem that goes on is not told again within this time. Milliseconds. */
const againMs = 30_000

/** The function that it returns throws `NetimageError` if the site cannot be read. */
export function createSiteFiles({ state, site, onError }: SiteFilesSettings) {
  /** When problems were told. A machine whose root cannot be opened is tried again each second. */
  const told = new Map<string, number>()
  return (machine: string): SiteFiles => {
    const hostKey = site.hostKeyOf(machine)
    const name = site.nameOf(machine) ?? machine
    const onProblem = (error: NetimageError) => {
      const says = `${name}: ${error.message}`
      const before = told.get(says)
      if (before !== undefined && performance.now() - before < againMs) return
      remember(told, says, performance.now())
      onError(explained(error, says, {}, error.hint))
    }
    return {
      ifMissing: hostKey ? filesOfHostKey(hostKey, name) : [],
      directory: {
        ...{ path: ['etc', 'netimage', 'secrets'], modes: { directory: 0o500, file: 0o400 } },
        files: readSecrets({ state, machine }, onProblem),
      },
      onProblem,
    }
  }
}
