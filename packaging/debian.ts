/** The Debian package: the program below /usr, with a unit that systemd starts if a person says so. */
import { execFileSync } from 'node:child_process'
import {
  cpSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { version } from '../src/version.ts'
import { levelModes } from './archive.ts'
import { maintainerOf } from './maintainer.ts'
import type { Architecture } from './program.ts'
import type { ReleaseSettings } from './settings.ts'

const files = join(import.meta.dirname, 'files')

export const debianArchitecture: Record<Architecture, string> = { x64: 'amd64', arm64: 'arm64' }

/** @param program as `makeProgram` makes it @returns the path of the package */
export function makeDebianPackage(
  program: string,
  architecture: Architecture,
  { work, output, epoch, xzLevel }: ReleaseSettings,
): string {
  const name = debianArchitecture[architecture]
  const tree = join(work, `debian-${name}`)
  const usr = join(tree, 'usr')
  cpSync(program, usr, { recursive: true, verbatimSymlinks: true })
  renameSync(join(usr, 'share/zsh/site-functions'), join(usr, 'share/zsh/vendor-completions'))
  cpSync(join(files, 'debian/copyright'), join(usr, 'share/doc/netimage/copyright'))
  cpSync(join(files, 'debian/default'), join(tree, 'etc/default/netimage'))
  const installed = regularFiles(tree)
  const control = join(tree, 'DEBIAN')
  mkdirSync(control)
  writeFileSync(join(control, 'control'), controlOf(name, sizeOf(tree, installed)))
  writeFileSync(join(control, 'conffiles'), '/etc/default/netimage\n')
  writeFileSync(join(control, 'md5sums'), execFileSync('md5sum', installed, { cwd: tree }))
  for (const script of ['postinst', 'prerm', 'postrm']) {
    cpSync(join(files, 'debian', script), join(control, script))
  }
  levelModes(tree)
  const file = join(output, `netimage_${debianVersion}_${name}.deb`)
  // With more threads, xz makes other bytes.
  const compression = ['-Zxz', `-z${xzLevel}`, '--threads-max=1']
  execFileSync('dpkg-deb', ['--root-owner-group', ...compression, '--build', tree, file], {
    env: { ...process.env, SOURCE_DATE_EPOCH: `${epoch}` },
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  rmSync(tree, { recursive: true })
  return file
}

/** In Debian's order, a version with "-rc.1" would come after the version without it. */
const debianVersion = version.replace('-', '~')

function controlOf(architecture: string, kibibytes: number): string {
  return `Package: netimage
Version: ${debianVersion}
Architecture: ${architecture}
Maintainer: ${maintainerOf()}
Installed-Size: ${kibibytes}
Depends: adduser, libc6 (>= 2.28), libgcc-s1, libstdc++6 (>= 8)
Recommends: openssh-client
Suggests: nix-bin, sbsigntool
Section: admin
Priority: optional
Description: boot NixOS over the network
 netimage turns a NixOS system into a boot tree for TFTP and HTTP and a root
 tree for NFS, serves both to machines without disks, and keeps what the
 machines write through updates.
 .
 The package brings its own Node.js. Its service starts when you enable it.
`
}

/** Relative to the tree, in the order of their names. */
function regularFiles(tree: string): string[] {
  return readdirSync(tree, { recursive: true, encoding: 'utf8' })
    .filter((name) => lstatSync(join(tree, name)).isFile())
    .toSorted()
}

/** In KiB, with each file rounded up, as Debian counts. */
function sizeOf(tree: string, installed: readonly string[]): number {
  const sizes = installed.map((file) => Math.ceil(lstatSync(join(tree, file)).size / 1024))
  return sizes.reduce((sum, size) => sum + size, 0)
}
