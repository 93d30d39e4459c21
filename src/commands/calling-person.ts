/** Who runs this command. */
import { userInfo } from 'node:os'

import type { Person } from '../site/log/entry.ts'

/** The longest names of users on Linux have 32 characters; directories (LDAP) have longer ones. */
const longestName = 100

/** To be called before `becomeOwner`, after which root is the user of the server. */
export function callingPerson(env: NodeJS.ProcessEnv = process.env): Person {
  const uid = process.getuid?.() ?? -1
  const name = nameOfUser()
  const { SUDO_USER: user, SUDO_UID: sudoUid } = env
  return {
    ...{ kind: 'person', uid },
    ...(name !== undefined && { name: name.slice(0, longestName) }),
    ...(user && { sudo: { user: user.slice(0, longestName), ...uidIn(sudoUid) } }),
  }
}

function uidIn(text = ''): { uid?: number } {
  return /^\d{1,10}$/.test(text) ? { uid: Number(text) } : {}
}

/** @returns undefined if the user has no entry in the list of users */
function nameOfUser(): string | undefined {
  try {
    return userInfo().username
  } catch {
    return undefined
  }
}
