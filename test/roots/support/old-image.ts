// The image below the layers of format 1 in `old-layers/`: the same names, kinds, bytes and times
// each time that it is made.

import { linkSync, lutimesSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ImageStorePath } from '../../../src/roots/root-image.ts'

export const oldStorePaths: readonly ImageStorePath[] = ['a', 'b', 'c', 'd', 'e'].map((letter) => ({
  name: `${letter.repeat(32)}-${letter}`,
  narHash: `sha256:${letter}`,
}))

export function makeOldImage(root: string): void {
  const store = join(root, 'nix/store')
  const [a = '', b = '', c = '', d = '', e = ''] = oldStorePaths.map(({ name }) =>
    join(store, name),
  )
  for (const path of ['etc/ssh', 'var/lib', 'home'])
    mkdirSync(join(root, path), { recursive: true })
  for (const path of [`${a}/bin`, `${a}/share/doc`, `${b}/bin`, `${b}/lib/deep/er`, c]) {
    mkdirSync(path, { recursive: true })
  }
  const file = (path: string, text: string) => writeFileSync(path, `${text}\n`.repeat(20))
  file(join(root, 'etc/hostname'), 'image')
  file(join(root, 'etc/ssh/key'), 'key')
  file(join(root, 'var/lib/state'), 'state')
  file(join(store, 'not-of-the-closure'), 'else')
  file(`${a}/bin/one`, 'one')
  file(`${a}/share/doc/text`, 'text')
  file(`${b}/lib/deep/er/file`, 'deep')
  file(`${b}/lib/deep/alone`, 'alone')
  file(`${c}/config`, 'config')
  file(d, 'a store path that is a file')
  symlinkSync('/etc/hostname', e)
  symlinkSync('one', `${a}/bin/link`)
  // One file has names in three store paths and outside, as after `nix-store --optimise`.
  for (const other of [`${a}/bin/same`, `${b}/bin/one`, `${c}/same`, join(root, 'etc/same')]) {
    linkSync(`${a}/bin/one`, other)
  }
  linkSync(`${a}/share/doc/text`, `${b}/lib/text`)
  linkSync(`${b}/lib/deep/alone`, `${b}/lib/deep/er/alone`)
  linkSync(join(root, 'etc/hostname'), join(root, 'var/lib/hostname'))
  linkSync(join(root, 'var/lib/state'), `${b}/lib/zzz`)
  for (const path of readdirSync(root, { recursive: true }).map(String).sort().reverse()) {
    lutimesSync(join(root, path), 1, 1)
  }
  lutimesSync(root, 1, 1)
}
