/** Makes root work in the state directory of another user as that user, if possible. */
import { lstatSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

/** The group nogroup of Debian and NixOS: it has no special rights. */
const noGroup = 65_534

/**
 * The owner of the layers can replace any file or directory among them by a link. Root would then
 * read or overwrite the target of that link. So root becomes that user for the rest of the command,
 * and new files belong to that user as well.
 *
 * The user may not be able to reach the layers: a service with `DynamicUser` cannot enter
 * `/var/lib/private`. Then root stays root, and `refuseLinks` refuses links.
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
