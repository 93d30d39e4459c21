// The loader of iPXE for each firmware. The programs are Debian's, under the names of each
// distributor.

import assert from 'node:assert/strict'
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { ipxeFiles } from '../../src/boot/ipxe.ts'
import { findLoaders } from '../../src/boot/loaders.ts'
import { processorOf, processorOfProgram } from '../../src/boot/pe.ts'
import type { BootRequest } from '../../src/boot/request.ts'
import { parseNfsRoot } from '../../src/nixos/nfs-root.ts'
import { fetchFirmware } from '../e2e/support/firmware.ts'
import { netimageError } from '../support/errors.ts'
import { storePath } from '../support/path-infos.ts'
import { peHeader } from '../support/pe-header.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'

const freshName = freshNames(temporaryDirectory())
const { ipxe, stubs } = await fetchFirmware()
const [x64, arm64] = [join(ipxe, 'snponly.efi'), join(ipxe, 'ipxe-arm64.efi')]

function directoryOf(files: Record<string, string>): string {
  const directory = freshName()
  mkdirSync(directory)
  for (const [name, from] of Object.entries(files)) copyFileSync(from, join(directory, name))
  return directory
}

/** The loaders that a boot tree gets from a directory, by the firmware that they are for. */
async function loadersOf(directory: string, platform: string) {
  const warnings: string[] = []
  const request: BootRequest = {
    system: {
      toplevel: storePath(`/nix/store/${'1'.repeat(32)}-nixos-system-host-25.11`),
      label: '25.11',
      platform,
      entries: [],
      fileSystems: [],
    },
    nfsRoot: parseNfsRoot('10.0.0.5:/srv,v3'),
    settings: { ipxe: directory },
    find: () => Promise.resolve(undefined),
    warn: (message) => warnings.push(message),
  }
  const files = (await ipxeFiles(request)).map(({ path }) => path)
  const processor = (file: string) => processorOfProgram(join(directory, file))
  const { bios, efiX64, efiArm64 } = findLoaders(new Set(files), processor, undefined)
  return { bios, efiX64, efiArm64, warnings }
}

suite('loaders of iPXE', () => {
  for (const [who, files, expected] of [
    // pkgs/by-name/ip/ipxe/package.nix
    ['nixpkgs', ['ipxe.efi', 'snp.efi'], 'snp.efi'],
    // /usr/share/ipxe/arm64-efi
    ['Fedora', ['snponly.efi'], 'snponly.efi'],
    ['Debian', ['ipxe-arm64.efi'], 'ipxe-arm64.efi'],
    ['a person', ['snponly-arm64.efi', 'ipxe.efi'], 'snponly-arm64.efi'],
  ] as const) {
    test(`for arm64, with the names of ${who}, are only for arm64`, async () => {
      const directory = directoryOf(Object.fromEntries(files.map((name) => [name, arm64])))
      const found = await loadersOf(directory, 'aarch64-linux')
      const nothing = { bios: undefined, efiX64: undefined, warnings: [] }
      assert.deepEqual(found, { ...nothing, efiArm64: expected })
    })
  }

  test('of Debian are for BIOS and both processors', async () => {
    assert.deepEqual(await loadersOf(ipxe, 'x86_64-linux'), {
      ...{ bios: 'undionly.kpxe', efiX64: 'snponly.efi', efiArm64: 'ipxe-arm64.efi', warnings: [] },
    })
  })

  test('for another processor than the system’s give a warning', async () => {
    const directory = directoryOf({ 'ipxe.efi': x64, 'undionly.kpxe': join(ipxe, 'undionly.kpxe') })
    const { efiX64, warnings } = await loadersOf(directory, 'aarch64-linux')
    assert.equal(efiX64, 'ipxe.efi')
    assert.match(warnings.join(), /are for BIOS and x86_64, but the system is for aarch64-linux/)
    assert.deepEqual((await loadersOf(directory, 'x86_64-linux')).warnings, [])
  })

  test('are not files that only have the name of a loader', async () => {
    const directory = directoryOf({ 'ipxe.efi': x64 })
    writeFileSync(join(directory, 'ipxe.efi'), 'no program')
    writeFileSync(join(directory, 'snponly.efi'), peHeader('ia32'))
    await assert.rejects(
      loadersOf(directory, 'x86_64-linux'),
      netimageError('bad-option', /has no loader of iPXE/),
    )
    await assert.rejects(
      loadersOf('/dev/null', 'x86_64-linux'),
      netimageError('bad-option', /no loader/),
    )
  })
})

test('the processor is read from the header, of real programs and of any bytes', () => {
  assert.equal(processorOfProgram(x64), 'x86_64')
  assert.equal(processorOfProgram(arm64), 'aarch64')
  assert.equal(processorOfProgram(stubs['x86_64-linux']), 'x86_64')
  assert.equal(processorOfProgram(stubs['aarch64-linux']), 'aarch64')
  assert.equal(processorOf(peHeader('riscv64')), 'riscv64')
  assert.equal(processorOfProgram('/dev'), undefined)
  const bytes = fc.uint8Array({ maxLength: 200 })
  fc.assert(
    fc.property(fc.boolean(), bytes, fc.nat(200), (isProgram, noise, at) => {
      const start = isProgram ? peHeader('x64') : Buffer.from('MZ')
      const whole = Buffer.concat([start.subarray(0, at), Buffer.from(noise)])
      assert.ok([undefined, 'x86_64'].includes(processorOf(whole)) || noise.length > 2)
    }),
  )
})
