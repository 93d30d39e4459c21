/** A tarball that needs nothing else: unpack it anywhere, and run `bin/netimage`. */
import { basename, dirname, join } from 'node:path'
import { tar } from './archive.ts'
import type { ReleaseSettings } from './settings.ts'

/** @param program as `makeProgram` makes it */
export function makeTarball(program: string, { output, epoch }: ReleaseSettings): void {
  const name = basename(program)
  const compression = ['--use-compress-program=gzip --no-name']
  tar(dirname(program), [name], join(output, `${name}.tar.gz`), epoch, compression)
}
