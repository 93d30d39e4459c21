/** All files of a release for some kinds of computer. */
import { execFileSync } from 'node:child_process'
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { writeBill } from './bill.ts'
import { makeDebianPackage } from './debian.ts'
import { fetchBase, makeImage } from './image.ts'
import { makeProgram, packForNpm, type Architecture } from './program.ts'
import type { ReleaseSettings } from './settings.ts'
import { makeTarball } from './tarball.ts'

/** @param cache a directory that keeps the base of images, which a second release need not fetch */
export async function makeRelease(
  architectures: readonly Architecture[],
  cache: string,
  settings: ReleaseSettings,
): Promise<void> {
  const npmPackage = packForNpm(settings)
  const bases: string[] = []
  for (const architecture of architectures) {
    const program = await makeProgram(npmPackage, architecture, settings)
    makeTarball(program, settings)
    makeDebianPackage(program, architecture, settings)
    const base = fetchBase(join(cache, `base-${architecture}`), architecture)
    makeImage(program, base, architecture, settings)
    bases.push(base)
  }
  writeBill(bases, settings)
  const { output } = settings
  const names = readdirSync(output).toSorted()
  writeFileSync(join(output, 'SHA256SUMS'), execFileSync('sha256sum', names, { cwd: output }))
}
