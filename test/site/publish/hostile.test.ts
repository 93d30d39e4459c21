// A machine publishes what is no system. The server refuses it by name, and makes nothing of it.

import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { toStorePath } from '../../../src/nix/store-path.ts'
import type { FileSystem } from '../../../src/protocols/nfs/file-system.ts'
import { makeBootTree, type PublishImage } from '../../../src/site/publish/boot-tree.ts'
import { publish } from '../../../src/site/publish/published.ts'
import type { Stage } from '../../../src/site/publish/stage.ts'
import { netimageError } from '../../support/errors.ts'
import { inventPath } from '../../support/synthetic.ts'
import { freshNames, temporaryDirectory } from '../../support/temporary.ts'
import { imageIn, imageToplevel } from './support/images.ts'
import { kernelPath, makeRoot, plant, plantAll, systemOf, type Made } from './support/roots.ts'

const directory = temporaryDirectory()
const freshName = freshNames(directory)
const secret = join(directory, 'secret')
writeFileSync(secret, 'of the server')
const outside = inventPath('outside')
const { toplevel, files } = systemOf('hostile')

interface Published {
  /** Read by the server, bytes of all files. */
  readBytes: number
  place: string
  result: ReturnType<typeof publish>
}

function publishFrom(
  fileSystem: FileSystem,
  image = imageIn(freshName(), { ways: ['extlinux'] }),
): Published {
  const place = freshName()
  mkdirSync(place)
  const path = toStorePath(toplevel)
  assert.ok(path)
  const published: Published = {
    readBytes: 0,
    place,
    result: publish({
      view: {
        ...fileSystem,
        read(file, offset, into) {
          const read = fileSystem.read(file, offset, into)
          published.readBytes += read
          return read
        },
      },
      image,
      toplevel: path,
      directory: place,
      warn: (message) => assert.fail(message),
      signal: new AbortController().signal,
    }),
  }
  return published
}

const gigabyte = 1024 ** 3
const documentWith = (changes: object) => ({
  'org.nixos.bootspec.v1': {
    ...{ system: 'x86_64-linux', label: 'x', toplevel, init: `${toplevel}/init` },
    ...{ kernel: `${kernelPath}/bzImage`, kernelParams: [], ...changes },
  },
})
const bootspec = (changes: object) => ({
  [`${toplevel}/boot.json`]: { file: JSON.stringify(documentWith(changes)) },
})
const withSpecialisations = (count: number) => ({
  ...documentWith({}),
  'org.nixos.specialisation.v1': Object.fromEntries(
    Array.from({ length: count }, (_, at) => [`special-${at}`, documentWith({})]),
  ),
})
const many = (count: number, made: (index: number) => Made): Made => ({
  directory: Object.fromEntries(Array.from({ length: count }, (_, at) => [`${at}`, made(at)])),
})
const hostile: Record<string, [Record<string, Made>, RegExp]> = {
  'a kernel outside of the store': [
    { ...bootspec({ kernel: '/etc/shadow' }), '/etc/shadow': { file: 'x' } },
    /\/etc\/shadow is not in the store/,
  ],
  'a kernel with .. in its path': [
    bootspec({ kernel: `${toplevel}/../../../etc/shadow` }),
    /kernel: the text is no absolute path, or has "\.\."/,
  ],
  'a link that leads out of the root': [
    { [`${toplevel}/kernel`]: { link: '../../../../../../../../../..' + secret } },
    /names the file .*\/kernel, which does not exist/,
  ],
  'a link to a file of the server': [
    { [`${toplevel}/kernel`]: { link: secret } },
    /names the file .*\/kernel, which does not exist/,
  ],
  'a link to the machine’s own files': [
    { [`${toplevel}/kernel`]: { link: '/home/kernel' }, '/home/kernel': { file: 'x' } },
    /kernel leads to \/home\/kernel, which is not in the store/,
  ],
  'links in a circle': [
    { [`${kernelPath}/bzImage`]: { link: `${toplevel}/kernel` } },
    /leads through more than 40 links/,
  ],
  'a way without end': [
    { [`${toplevel}/kernel`]: { link: 'a/../'.repeat(700) }, [`${toplevel}/a`]: { directory: {} } },
    /has more than 400 steps/,
  ],
  'a FIFO as its kernel': [{ [`${kernelPath}/bzImage`]: { special: 'fifo' } }, /its type is fifo/],
  'a FIFO as its bootspec': [
    { [`${toplevel}/boot.json`]: { special: 'fifo' } },
    /its type is fifo/,
  ],
  'a device as its initrd': [
    { [`${kernelPath}/initrd`]: { special: 'block' } },
    /its type is block/,
  ],
  'a socket among its device trees': [
    { [`${toplevel}/dtbs/x`]: { special: 'socket' } },
    /dtbs\/x is no file, directory or link: its type is socket/,
  ],
  'a directory as its kernel': [
    { [`${toplevel}/kernel`]: { link: '.' } },
    /names the file .*\/kernel, which does not exist/,
  ],
  'an initrd with 2 GB': [
    { [`${kernelPath}/initrd`]: { hole: 2 * gigabyte } },
    /the kernels, initrds and device trees of the system are more than 1073741824 bytes/,
  ],
  'a text with 2 GB': [
    { [`${toplevel}/boot.json`]: { hole: 2 * gigabyte } },
    /boot.json has 2147483648 bytes, but at most 262144 are read/,
  ],
  'a bootspec that is not JSON': [{ [`${toplevel}/boot.json`]: { file: '{' } }, /it is not JSON/],
  'another system’s init': [
    bootspec({ init: `${outside}/init` }),
    /names \/nix\/store\/.*-outside\/init as its init/,
  ],
  'a file instead of the system': [
    { [toplevel]: { file: 'x' } },
    /is not a directory of the store/,
  ],
  'a link instead of the system': [
    { [toplevel]: { link: kernelPath }, [kernelPath]: { directory: {} } },
    /is not a directory/,
  ],
  'a directory with too many names': [
    { [`${toplevel}/dtbs`]: many(4097, () => ({ link: 'x' })) },
    /dtbs has more than 4096 names/,
  ],
  'device trees that contain themselves': [
    { [`${toplevel}/dtbs/a`]: { link: '../dtbs' } },
    /dtbs\/a lies too deep, or its links lead in a circle/,
  ],
  'too many specialisations': [
    { [`${toplevel}/boot.json`]: { file: JSON.stringify(withSpecialisations(64)) } },
    /has more than 63 specialisations/,
  ],
  'a name that is not UTF-8': [
    { [`${toplevel}/kernel`]: { link: Buffer.from([0x61, 0xff]) } },
    /the name "aÿ" is not UTF-8/,
  ],
}

suite('a system that a machine publishes is refused', () => {
  for (const [what, [changes, reason]] of Object.entries(hostile)) {
    test(`with ${what}`, async () => {
      const root = makeRoot(freshName())
      try {
        plantAll(root.fileSystem, toplevel in changes ? {} : files)
        plantAll(root.fileSystem, changes)
        const published = publishFrom(root.fileSystem)
        await assert.rejects(published.result, netimageError('bad-system', reason))
        assert.deepEqual(readdirSync(published.place), [], 'nothing is left')
        assert.ok(published.readBytes < 1 << 20, 'large files are not read')
      } finally {
        await root.close()
      }
    })
  }
})

suite('the image of a machine may not allow to publish', () => {
  const menu = `kernel line with init=${imageToplevel}/init`
  const images: Record<string, [PublishImage, RegExp]> = {
    'an image of an earlier version': [
      imageIn(freshName(), undefined),
      /does not record how its boot files were made/,
    ],
    'an image whose commands make all boot files': [
      imageIn(freshName(), { ways: [] }),
      /are all made by populateFirmwareCommands/,
    ],
    'an image for UEFI, if the system has no stub': [
      imageIn(freshName(), { ways: ['uefi'] }),
      /the system has no stub of systemd/,
    ],
    'a signed image': [imageIn(freshName(), { signed: true }), /does not have the key/],
    'an image whose commands made the menu': [
      imageIn(freshName(), { fromCommands: ['boot.ipxe'] }, { 'boot.ipxe': '#!ipxe' }),
      /made boot.ipxe of this machine’s image, and this file is only for the system of the image/,
    ],
    'an image whose commands made a menu of another loader': [
      imageIn(freshName(), { fromCommands: ['grub/grub.cfg'] }, { 'grub/grub.cfg': menu }),
      /made grub\/grub.cfg of this machine’s image/,
    ],
  }
  for (const [what, [image, reason]] of Object.entries(images)) {
    test(what, async () => {
      const root = makeRoot(freshName())
      try {
        plantAll(root.fileSystem, files)
        const { result } = publishFrom(root.fileSystem, image)
        await assert.rejects(result, netimageError('bad-system', reason))
      } finally {
        await root.close()
      }
    })
  }
})

test('links that lead to a large file many times do not fill the disk', async () => {
  const [tree, real, trees] = [freshName(), freshName(), freshName()]
  writeFileSync(real, 'large')
  mkdirSync(trees)
  for (const name of ['1', '2', '3', '4']) symlinkSync('../kernel', join(trees, name))
  const path = toStorePath(toplevel)
  assert.ok(path)
  const entry = { label: 'x', kernel: `${path}/kernel`, init: `${path}/init`, kernelParams: [] }
  const system = {
    ...{ toplevel: path, label: 'x', platform: 'x86_64-linux', fileSystems: [] },
    entries: [{ ...entry, dtbs: `${path}/dtbs` }],
  }
  const stage: Stage = {
    find: (found) =>
      Promise.resolve(
        found.endsWith('dtbs')
          ? { path: found, real: trees, kind: 'directory' }
          : { path: found, real, kind: 'file' },
      ),
    amountOf: (found) => ({ files: 1, bytes: found.endsWith('kernel') ? gigabyte : 0 }),
  }
  const image = imageIn(freshName(), { ways: ['extlinux'] })
  await assert.rejects(
    makeBootTree(tree, system, image, { stage, takeRoom() {}, warn: assert.fail }),
    netimageError('bad-system', /the boot files of the system are more than 3221225472 bytes/),
  )
})

test('a system of another machine is not there', async () => {
  const root = makeRoot(freshName())
  try {
    const { result } = publishFrom(root.fileSystem)
    const reason = /^\/nix\/store\/\S+-nixos-system-hostile is not in the root of this machine$/
    await assert.rejects(result, netimageError('bad-system', reason))
  } finally {
    await root.close()
  }
})

// The server could write through a link that it copied before.
test('a link that becomes a directory while the server copies is not followed', async () => {
  const root = makeRoot(freshName())
  const target = freshName()
  mkdirSync(target)
  try {
    const { fileSystem } = root
    plantAll(fileSystem, files)
    const trees = plant(fileSystem, `${toplevel}/dtbs`, { directory: { trap: { link: target } } })
    let isCopied = false
    const swapped: FileSystem = {
      ...fileSystem,
      readLink(link) {
        const linked = fileSystem.readLink(link)
        if (linked.toString() === target) isCopied = true
        return linked
      },
      lookup(from, name) {
        if (from === trees && isCopied && name.toString() === 'trap') {
          isCopied = false
          fileSystem.remove(trees, Buffer.from('trap'))
          plant(fileSystem, `${toplevel}/dtbs/trap/x.dtb`, { file: 'written' })
        }
        return fileSystem.lookup(from, name)
      },
    }
    const image = imageIn(freshName(), { ways: ['extlinux'], deviceTree: 'trap/x.dtb' })
    const { result } = publishFrom(swapped, image)
    await assert.rejects(result, netimageError('bad-system', /changed while the server read it/))
    assert.deepEqual(readdirSync(target), [])
  } finally {
    await root.close()
  }
})
