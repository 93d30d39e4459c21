// Linux as a program (User Mode Linux), without an emulator: the fastest machine.

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { repository } from '../../support/netimage.ts'
import { findProgram } from '../../support/packages.ts'

/** user-mode-linux.c tells why it is needed. scripts/build-user-mode-linux.sh builds it. */
const library = join(repository, 'node_modules/.cache/user-mode-linux.so')

export type UserModeLinux = {
  /** Default: that of Debian. */
  kernel?: string
  /** A directory for files of the machine. */
  directory: string
  /** As the kernel reads it: `512M`. */
  memory: string
  /** Its root is the root of this computer, read-only, and this is the path of its init. Default: an initrd. */
  init?: string
  /** Devices, and the rest of the kernel line. */
  line: readonly string[]
}

/** Its console is its input and output. It ends if its kernel panics. */
export function userModeLinuxCommand({
  kernel = findProgram('linux.uml'),
  directory,
  memory,
  init,
  line,
}: UserModeLinux): string[] {
  const rootOfThis = ['root=/dev/root', 'rootfstype=hostfs', 'rootflags=/', 'ro', 'loglevel=4']
  return [
    ...['env', `HOME=${directory}`, `LD_PRELOAD=${preloaded()}`, kernel],
    ...[`mem=${memory}`, `uml_dir=${directory}`, 'con0=fd:0,fd:1', 'con=null', 'panic=-1'],
    ...(init === undefined ? [] : [...rootOfThis, `init=${init}`]),
    ...line,
  ]
}

/** The loader would leave out a library that is not there, and split the path at spaces and colons. */
function preloaded(): string {
  if (/[ :]/.test(library)) {
    throw new Error(
      `User Mode Linux cannot load ${library}, because there is a space or a colon in this path. Move the repository to another path.`,
    )
  }
  if (existsSync(library)) return library
  throw new Error(`There is no ${library}. Run: sh scripts/setup-tests.sh`)
}
