/**
 * Makes all files of a release below `release/`: see README.md.
 *
 *     npm run release
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { maintainerOf, noMaintainer } from './maintainer.ts'
import { makeRelease } from './make.ts'

if (maintainerOf() === noMaintainer) {
  console.error(
    'warning: nobody is named as the maintainer of the Debian packages: set DEBFULLNAME and DEBEMAIL',
  )
}
const repository = join(import.meta.dirname, '..')
const output = join(repository, 'release')
rmSync(output, { recursive: true, force: true })
mkdirSync(output)
const work = mkdtempSync(join(tmpdir(), 'netimage-release-'))
try {
  const settings = { work, output, epoch: epochOfCommit(), xzLevel: 6 }
  await makeRelease(['x64', 'arm64'], work, settings)
  console.log(readFileSync(join(output, 'SHA256SUMS'), 'utf8').trimEnd())
} finally {
  rmSync(work, { recursive: true })
}

/** Seconds: the time of the commit, so that everybody who makes it gets the same files. */
function epochOfCommit(): number {
  const given = process.env['SOURCE_DATE_EPOCH']
  if (given !== undefined) return Number(given)
  const args = ['-C', repository, 'log', '-1', '--format=%ct']
  return Number(execFileSync('git', args, { encoding: 'utf8' }))
}
