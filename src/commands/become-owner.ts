/** Makes root work in the state directory of another user as that user, if possible. */
import { lstatSync, readdirSync, statSync, type Stats } from 'node:fs'

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
 * @param directory the directory in which the command works
 * @returns false if this is root in the directory of another user, and stays root
 */
export function becomeOwner(directory: string): boolean {
  const { setgroups, setegid, seteuid, setgid, setuid } = process
  if (process.geteuid?.() !== 0 || !setgroups || !setegid || !seteuid || !setgid || !setuid) {
    return true
  }
  const owner = ownerOf(directory)
  if (!owner || owner.uid === 0) return true
  const group = owner.gid === 0 ? noGroup : owner.gid
  const groups = process.getgroups?.() ?? []
  setgroups([])
  setegid(group)
  seteuid(owner.uid)
  const isOpen = canRead(directory)
  seteuid(0)
  setegid(0)
  if (isOpen) {
    setgid(group)
    setuid(owner.uid)
  } else {
    setgroups(groups)
  }
  return isOpen
}

/** A service with `DynamicUser` has a link of root to its directory. */
function ownerOf(directory: string): Stats | undefined {
  const found = lstatSync(directory, { throwIfNoEntry: false })
  const isLinkOfRoot = found?.isSymbolicLink() && found.uid === 0
  return isLinkOfRoot ? statSync(directory, { throwIfNoEntry: false }) : found
}

function canRead(directory: string): boolean {
  try {
    readdirSync(directory)
    return true
  } catch {
    return false
  }
}
