// The root that systemd's stage 1 mounts for a kernel line; the rules about the root rely on this.
// The tests run the real generator of mount units, as in an initrd of NixOS.

import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { errnoOf } from '../../src/errors.ts'
import { runProgram } from '../support/real-nix.ts'
import { cacheDirectory } from './support/cache.ts'

const inFstab = '10.66.0.1:/srv/alpha'
const nfsRoot = 'nfsroot=10.66.0.1:/srv/beta,v3'

suite('systemd’s stage 1', () => {
  const directory = mkdtempSync(join(tmpdir(), 'netimage-generator-'))
  let systemd: string

  before(async () => {
    const script = join(import.meta.dirname, 'support', 'fetch-systemd.sh')
    systemd = (await runProgram('sh', [script, cacheDirectory('systemd')])).trim()
  })
  after(() => rmSync(directory, { recursive: true, force: true }))

  /** The device that stage 1 would mount as the root; undefined if it would mount none. */
  async function mountedBy(kernelLine: string, root = inFstab): Promise<string | undefined> {
    const out = mkdtempSync(join(directory, 'units-'))
    const folders = ['normal', 'early', 'late'].map((name) => join(out, name))
    for (const folder of folders) mkdirSync(folder)
    const fstab = join(out, 'fstab')
    writeFileSync(fstab, root === '' ? '' : `${root} / nfs x-initrd.mount,vers=3,nolock 0 0\n`)
    const libraries = join(systemd, 'usr/lib/x86_64-linux-gnu')
    // systemd also uses the units of a generator that prints errors.
    await runProgram('sh', [
      ...['-c', '"$@" || true', 'sh', 'env'],
      'SYSTEMD_IN_INITRD=1',
      `SYSTEMD_PROC_CMDLINE=${kernelLine}`,
      `SYSTEMD_SYSROOT_FSTAB=${fstab}`,
      join(libraries, 'ld-linux-x86-64.so.2'),
      ...['--library-path', `${libraries}:${join(libraries, 'systemd')}`],
      join(systemd, 'usr/lib/systemd/system-generators/systemd-fstab-generator'),
      ...folders,
    ])
    try {
      const unit = readFileSync(join(out, 'normal', 'sysroot.mount'), 'utf8')
      return /^What=(.*)$/m.exec(unit)?.[1]
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return undefined
      throw error
    }
  }

  for (const line of [
    'root=fstab',
    `root=fstab ${nfsRoot}`,
    `root=fstab root=/dev/nfs ${nfsRoot}`,
    `root=/dev/nfs ${nfsRoot} root=fstab`,
  ]) {
    test(`mounts the root of the fstab for ${line}`, async () => {
      assert.equal(await mountedBy(line), inFstab)
      assert.equal(await mountedBy(line, ''), undefined)
    })
  }

  test('mounts the last root of the kernel line instead of the root in the fstab', async () => {
    assert.equal(await mountedBy('root=fstab root=LABEL=nixos'), '/dev/disk/by-label/nixos')
    assert.equal(await mountedBy('root=LABEL=nixos root=fstab'), inFstab)
  })
})
