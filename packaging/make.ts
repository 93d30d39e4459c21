/** All files of a release for some kinds of computer. */
import { join } from 'node:path'
import { writeBill } from './bill.ts'
import { makeDebianPackage } from './debian.ts'
import { fetchBase, makeImage } from './image.ts'
import { makeProgram, packForNpm, type Architecture } from './program.ts'
import type { Request } from './request.ts'
import { writeSums } from './sums.ts'
import { makeTarball } from './tarball.ts'

/** @param cache a directory that keeps the base of images, which a second release need not fetch */
export async function makeRelease(
  architectures: readonly Architecture[],
  cache: string,
  request: Request,
): Promise<void> {
  const npmPackage = packForNpm(request)
  const bases: string[] = []
  for (const architecture of architectures) {
    const program = await makeProgram(npmPackage, architecture, request)
    makeTarball(program, request)
    makeDebianPackage(program, architecture, request)
    const base = fetchBase(join(cache, `base-${architecture}`), architecture)
    makeImage(program, base, architecture, request)
    bases.push(base)
  }
  writeBill(bases, request)
  writeSums(request.output)
}
