/** A tarball that needs nothing else: unpack it anywhere, and run `bin/netimage`. */
import { basename, dirname, join } from 'node:path'
import { gzipFile, tar } from './archive.ts'
import type { Request } from './request.ts'

/** @param program as `makeProgram` makes it @returns the path of the tarball */
export function makeTarball(program: string, { work, output, epoch, effort }: Request): string {
  const name = basename(program)
  const plain = join(work, `${name}.tar`)
  tar(dirname(program), [name], plain, epoch)
  const file = join(output, `${name}.tar.gz`)
  gzipFile(plain, file, effort)
  return file
}
