/** What root does in a directory of another user, it does as that user if it can. */
import { lstatSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

/** In no group that has more rights than others: nogroup, as Debian and NixOS have it. */
const noGroup = 65_534

/**
 * Whoever owns the layers can put a link in the place of any file or directory among them, and would
 * have root read or overwrite what it leads to. So root becomes that user for good, and what the
 * command makes belongs to that user as well.
 *
 * A directory above may be closed to the user, as `/var/lib/private` is to a service with
 * `DynamicUser`. Then root stays root, and refuses links itself: `refuseLinks`.
 *
 * @param state the state directory
 */
export function becomeOwner(state: string): void {
  const { setgroups, setegid, seteuid, setgid, setuid } = process
  if (process.geteuid?.() !== 0 || !setgroups || !setegid || !seteuid || !setgid || !setuid) return
  const layers = join(state, 'layers')
  const owner = lstatSync(layers, { throwIfNoEntry: false })
  if (!owner || owner.uid === 0) return
  const group = owner.gid === 0 ? noGroup : owner.gid
  const groups = process.getgroups?.() ?? []
  setgroups([])
  setegid(group)
  seteuid(owner.uid)
  const isOpen = canRead(layers)
  seteuid(0)
  setegid(0)
  if (isOpen) {
    setgid(group)
    setuid(owner.uid)
  } else {
    setgroups(groups)
  }
}

function canRead(directory: string): boolean {
  try {
    readdirSync(directory)
    return true
  } catch {
    return false
  }
}
