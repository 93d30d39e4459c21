import assert from 'node:assert/strict'
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { beforeEach, suite, test } from 'node:test'
import fc from 'fast-check'
import { baseNameOf, splitStorePath } from '../../src/nix/store-path.ts'
import type { StorePath } from '../../src/nix/store-path.ts'
import { storeFilesIn, type TreeOf } from '../../src/nixos/store-files.ts'
import { readSystem } from '../../src/nixos/system.ts'
import { assertError, netimageError, type Expected } from '../support/errors.ts'
import { storePath } from '../support/path-infos.ts'
import { temporaryDirectory } from '../support/temporary.ts'

const store = temporaryDirectory()
const path = (digit: number, name: string): StorePath => {
  return storePath(`/nix/store/${String(digit).repeat(32)}-${name}`)
}

const toplevel = path(1, 'nixos-system-host-25.11')
const kernel = path(2, 'linux-6.12.9')
const initrd = path(3, 'initrd-linux-6.12.9')
const etc = path(4, 'etc')
const fstab = path(5, 'etc-fstab')
const dtbs = path(6, 'device-tree-overlays')
const serial = path(7, 'nixos-system-host-serial')

const treeOf: TreeOf = (path) => Promise.resolve(join(store, baseNameOf(path)))

function realOf(path: string): string {
  const split = splitStorePath(path)
  assert.ok(split)
  return join(store, baseNameOf(split.storePath), split.rest)
}

function write(path: string, contents: string): void {
  mkdirSync(dirname(realOf(path)), { recursive: true })
  writeFileSync(realOf(path), contents)
}

function link(path: string, target: string): void {
  mkdirSync(dirname(realOf(path)), { recursive: true })
  symlinkSync(target, realOf(path))
}

/** Writes the links and texts of every toplevel, with or without a bootspec. */
function writeToplevel(toplevel: string, label: string): void {
  write(`${toplevel}/init`, '#! /bin/sh\n')
  write(`${toplevel}/nixos-version`, label)
  write(`${toplevel}/system`, 'aarch64-linux')
  write(`${toplevel}/kernel-params`, 'console=ttyS0,115200  loglevel=4\n')
  link(`${toplevel}/kernel`, `${kernel}/Image`)
  link(`${toplevel}/initrd`, `${initrd}/initrd`)
}

function specification(toplevel: string, changes: Record<string, unknown> = {}) {
  return {
    init: `${toplevel}/init`,
    initrd: `${initrd}/initrd`,
    kernel: `${kernel}/Image`,
    kernelParams: ['console=ttyS0,115200', 'loglevel=4'],
    label: 'NixOS Xantusia 25.11 (Linux 6.12.9)',
    system: 'aarch64-linux',
    toplevel,
    ...changes,
  }
}

function writeBootspec(
  changes: Record<string, unknown> = {},
  specialisations: Record<string, unknown> = {},
): void {
  const document = {
    'org.nixos.bootspec.v1': specification(toplevel, changes),
    'org.nixos.specialisation.v1': specialisations,
  }
  write(`${toplevel}/boot.json`, JSON.stringify(document))
}

beforeEach(() => {
  for (const each of [toplevel, kernel, initrd, etc, fstab, dtbs, serial]) {
    rmSync(realOf(each), { recursive: true, force: true })
  }
  writeToplevel(toplevel, '25.11.20261122.abcdef')
  write(`${kernel}/Image`, 'kernel')
  write(`${initrd}/initrd`, 'initrd')
  link(`${toplevel}/etc`, `${etc}/etc`)
  link(`${etc}/etc/fstab`, fstab)
  write(fstab, '192.168.0.108:/srv / nfs nfsvers=3,ro 0 0\n')
})

const entry = {
  specialisation: undefined,
  label: 'NixOS Xantusia 25.11 (Linux 6.12.9)',
  kernel: `${kernel}/Image`,
  initrd: `${initrd}/initrd`,
  init: `${toplevel}/init`,
  kernelParams: ['console=ttyS0,115200', 'loglevel=4'],
  dtbs: undefined,
}

const system = {
  toplevel,
  label: '25.11.20261122.abcdef',
  platform: 'aarch64-linux',
  entries: [entry],
  fileSystems: [
    {
      device: '192.168.0.108:/srv',
      mountPoint: '/',
      type: 'nfs',
      options: ['nfsvers=3', 'ro'],
    },
  ],
}

const read = () => readSystem(storeFilesIn(treeOf), toplevel)

const refused = (action: () => Promise<unknown>, ...expected: Expected[]) =>
  assert.rejects(action, netimageError('bad-system', ...expected))

suite('a system with a bootspec', () => {
  beforeEach(() => writeBootspec())

  test('is read from the bootspec', async () => {
    assert.deepEqual(await read(), system)
  })

  test('may have no initrd', async () => {
    writeBootspec({ initrd: undefined })
    assert.deepEqual(await read(), { ...system, entries: [{ ...entry, initrd: undefined }] })
  })

  test('may name its files by links', async () => {
    writeBootspec({ kernel: `${toplevel}/kernel`, initrd: `${toplevel}/initrd` })
    assert.deepEqual(await read(), system)
  })

  test('has the device trees that its link leads to', async () => {
    write(`${dtbs}/broadcom/board.dtb`, 'dtb')
    link(`${toplevel}/dtbs`, dtbs)
    assert.equal((await read()).entries[0]?.dtbs, dtbs)
  })

  test('has no device trees if the link leads to a file', async () => {
    write(dtbs, 'a file')
    link(`${toplevel}/dtbs`, dtbs)
    assert.equal((await read()).entries[0]?.dtbs, undefined)
  })

  test('has specialisations after the system itself', async () => {
    const label = 'serial'
    writeBootspec(
      {},
      {
        serial: { 'org.nixos.bootspec.v1': specification(serial, { label }) },
        debug: { 'org.nixos.bootspec.v1': specification(toplevel, { kernelParams: ['debug'] }) },
      },
    )
    assert.deepEqual((await read()).entries, [
      entry,
      { ...entry, specialisation: 'debug', kernelParams: ['debug'] },
      { ...entry, specialisation: 'serial', label, init: `${serial}/init` },
    ])
  })

  test('may have no file systems', async () => {
    rmSync(realOf(fstab))
    assert.deepEqual((await read()).fileSystems, [])
  })

  test('may have any label that NixOS allows; other labels are refused with a reason', async () => {
    // types.strMatching "[a-zA-Z0-9:_.-]*" in nixpkgs's nixos/modules/misc/label.nix
    const characters = 'aZ09:_.-'.split('')
    const allowed = fc.string({ unit: fc.constantFrom(...characters), maxLength: 6 })
    for (const label of ['_wip-25.11', '-x:y', '', '..', ...fc.sample(allowed, 20)]) {
      write(`${toplevel}/nixos-version`, label)
      assert.equal((await read()).label, label)
    }
    for (const label of ['a/b', 'a b', 'a\nb', '\u001b[2J']) {
      write(`${toplevel}/nixos-version`, label)
      await assert.rejects(read(), (error) => {
        assertError(error, 'bad-system', { path: toplevel, field: 'label', actual: label })
        assert.match(error.hint ?? '', /system\.nixos\.label/)
        return true
      })
    }
  })

  test('has the label and platform of the bootspec if there are no files with them', async () => {
    rmSync(realOf(`${toplevel}/nixos-version`))
    rmSync(realOf(`${toplevel}/system`))
    writeBootspec({ label: '25.11-pre', system: 'riscv64-linux' })
    const { label, platform } = await read()
    assert.deepEqual([label, platform], ['25.11-pre', 'riscv64-linux'])
  })
})

suite('a system without a bootspec', () => {
  const labelled = { ...entry, label: '25.11.20261122.abcdef' }

  test('is read from its files', async () => {
    assert.deepEqual(await read(), { ...system, entries: [labelled] })
  })

  test('is the same with a bootspec of an unknown version', async () => {
    write(`${toplevel}/boot.json`, '{"org.nixos.bootspec.v9":{}}')
    assert.deepEqual(await read(), { ...system, entries: [labelled] })
  })

  test('may have texts that end in a newline', async () => {
    write(`${toplevel}/nixos-version`, '25.11.20261122.abcdef\n')
    write(`${toplevel}/system`, 'aarch64-linux\n')
    assert.deepEqual(await read(), { ...system, entries: [labelled] })
  })

  test('may have no initrd and no kernel parameters', async () => {
    rmSync(realOf(`${toplevel}/initrd`))
    rmSync(realOf(`${toplevel}/kernel-params`))
    const [only] = (await read()).entries
    assert.deepEqual(only, { ...labelled, initrd: undefined, kernelParams: [] })
  })

  test('has specialisations in a directory', async () => {
    writeToplevel(serial, '25.11-serial')
    link(`${toplevel}/specialisation/serial`, serial)
    write(`${toplevel}/specialisation/a-file`, 'no specialisation')
    assert.deepEqual((await read()).entries, [
      labelled,
      { ...labelled, specialisation: 'serial', label: '25.11-serial', init: `${serial}/init` },
    ])
  })

  for (const missing of ['init', 'nixos-version', 'system']) {
    test(`is no system without ${missing}`, async () => {
      rmSync(realOf(`${toplevel}/${missing}`))
      await assert.rejects(read(), netimageError('not-a-system', { path: toplevel }))
    })
  }

  test('is no system if its store path is missing', async () => {
    const nowhere: TreeOf = () => Promise.resolve(undefined)
    await assert.rejects(readSystem(storeFilesIn(nowhere), toplevel), netimageError('not-a-system'))
  })

  test('is no system if it is a file', async () => {
    write(kernel.replace('linux', 'file'), 'text')
    const file = storePath(kernel.replace('linux', 'file'))
    await assert.rejects(readSystem(storeFilesIn(treeOf), file), netimageError('not-a-system'))
  })
})

for (const withBootspec of [true, false]) {
  suite(`a system ${withBootspec ? 'with' : 'without'} a bootspec is refused if`, () => {
    beforeEach(() => {
      if (withBootspec) writeBootspec()
    })

    test('its kernel is missing', async () => {
      rmSync(realOf(`${kernel}/Image`))
      await refused(read, { path: withBootspec ? `${kernel}/Image` : `${toplevel}/kernel` })
    })

    test('its kernel is a directory', async () => {
      rmSync(realOf(`${kernel}/Image`))
      mkdirSync(realOf(`${kernel}/Image`))
      await refused(read, { path: withBootspec ? `${kernel}/Image` : `${toplevel}/kernel` })
    })

    test('its kernel lies outside of the store', async () => {
      rmSync(realOf(`${kernel}/Image`))
      link(`${kernel}/Image`, '/etc/passwd')
      await refused(read, { path: withBootspec ? `${kernel}/Image` : `${toplevel}/kernel` })
    })

    test('the links of its kernel form a circle', async () => {
      rmSync(realOf(`${kernel}/Image`))
      link(`${kernel}/Image`, `${toplevel}/kernel`)
      rmSync(realOf(`${toplevel}/kernel`))
      link(`${toplevel}/kernel`, `${kernel}/Image`)
      await refused(read, { expected: 40 })
    })

    test('its label or platform cannot be part of a file name', async () => {
      for (const name of ['nixos-version', 'system']) {
        const before = name === 'system' ? 'aarch64-linux' : '25.11'
        // File names also have other parts beside a label, but a platform may be a whole name.
        const whole = name === 'system' ? ['', ' ', '..', '.', '-x'] : []
        for (const text of [...whole, '../x', 'a/b', 'a b', 'a\nb', 'é', 'a\0b']) {
          write(`${toplevel}/${name}`, text)
          await refused(read, { field: name === 'system' ? 'platform' : 'label' })
        }
        write(`${toplevel}/${name}`, before)
      }
    })
  })
}

suite('a bootspec is refused if', () => {
  test('its initrd is missing', async () => {
    writeBootspec()
    rmSync(realOf(`${initrd}/initrd`))
    await refused(read, { path: `${initrd}/initrd` })
  })

  test('a specialisation has no kernel', async () => {
    const broken = specification(serial, { kernel: `${serial}/kernel` })
    writeBootspec({}, { serial: { 'org.nixos.bootspec.v1': broken } })
    await refused(read, { path: `${serial}/kernel` })
  })

  test('its kernel is not in the store', async () => {
    writeBootspec({ kernel: '/etc/passwd' })
    await refused(read, { path: '/etc/passwd' })
  })

  test('it is broken, even if the system’s files would suffice', async () => {
    write(`${toplevel}/boot.json`, '{')
    await refused(read, /boot\.json/)
  })
})
