import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { manifestName } from '../../src/image/layout.ts'
import {
  formatManifest,
  manifestClosure,
  parseManifest,
  readImage,
} from '../../src/image/manifest.ts'
import type { Manifest } from '../../src/image/manifest.ts'
import { formatHash } from '../../src/nix/hash.ts'
import { assertError, netimageError } from '../support/errors.ts'
import { anyClosure, hash, storePath } from '../support/path-infos.ts'
import { publishedInfo } from '../support/published-path.ts'
import { addressedPath } from '../support/synthetic.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'

const fresh = freshNames(temporaryDirectory())

const toplevel = storePath(`/nix/store/${'1'.repeat(32)}-nixos-system-host-25.11`)
const kernel = storePath(`/nix/store/${'2'.repeat(32)}-linux-6.12.9`)
const narHash = 'sha256:1b4sb93wp679q4zx9k1ignby1yna3z7c4c2ri3wphylbc2dwsys0'

const manifest: Manifest = {
  version: 1,
  system: {
    toplevel,
    label: '25.11',
    platform: 'aarch64-linux',
    entries: [
      {
        specialisation: 'serial',
        label: 'serial',
        kernel: `${kernel}/Image`,
        initrd: `${kernel}/initrd`,
        init: `${toplevel}/init`,
        kernelParams: ['console=ttyS0'],
        dtbs: `${kernel}/dtbs`,
      },
    ],
    fileSystems: [{ device: 'tmpfs', mountPoint: '/var', type: 'tmpfs', options: ['size=1G'] }],
  },
  options: {
    imageBaseName: 'base',
    rootDirectoryName: 'root',
    storePaths: [kernel],
    nfsRoot: '10.0.0.1:/srv,v4',
    populateFirmwareCommands: '',
    populateRootCommands: 'echo "two\nlines"',
  },
  closure: [
    { path: toplevel, narHash, narSize: 120, references: [toplevel, kernel], public: false },
    {
      path: kernel,
      narHash,
      narSize: 2 ** 53 - 1,
      references: [],
      ca: 'fixed:r:sha256:x',
      public: true,
    },
  ],
  root: {
    format: 'directory',
    owner: { uid: 0, gid: 0 },
    files: [
      { type: 'directory', path: 'etc', mode: '0755' },
      { type: 'file', path: 'etc/caf\\xe9', mode: '4755', size: 3, sha256: 'a'.repeat(64) },
      { type: 'symlink', path: 'link', target: '' },
    ],
  },
  boot: { files: [] },
}

test('a manifest is the same after writing and reading', () => {
  const read = parseManifest(formatManifest(manifest), 'the-manifest')
  assert.deepEqual(read.manifest, manifest)
  assert.deepEqual(read.options, manifest.options)
  assert.deepEqual(read.system, manifest.system)
  assert.deepEqual(read.closure, [
    {
      path: toplevel,
      narHash: hash(narHash),
      narSize: 120,
      references: [toplevel, kernel],
      signatures: [],
    },
    {
      path: kernel,
      narHash: hash(narHash),
      narSize: 2 ** 53 - 1,
      references: [],
      signatures: [],
      ca: 'fixed:r:sha256:x',
    },
  ])
  assert.deepEqual([...read.publicPaths], [kernel])
  assert.equal(formatManifest(read.manifest), formatManifest(manifest))
})

test('a manifest of a version that did not record public paths', () => {
  const older = formatManifest(manifest).replace(/,\s*"public": \w+/g, '')
  assert.doesNotMatch(older, /public/)
  assert.equal(parseManifest(older, 'the-manifest').publicPaths.size, 0)
})

test('a manifest of an archive is the same after writing and reading', () => {
  const root = { ...manifest.root, format: 'tar' as const, tar: { size: 10_240, sha256: 'x' } }
  const read = parseManifest(formatManifest({ ...manifest, root }), 'the-manifest')
  assert.deepEqual(read.manifest.root, root)
})

test('any closure is the same after writing and reading', () => {
  fc.assert(
    fc.property(anyClosure, (infos) => {
      const closure = infos.map(({ path, narHash, narSize, references }) => ({
        path,
        narHash: formatHash(narHash),
        narSize,
        references: [...references],
        public: false,
      }))
      const read = parseManifest(formatManifest({ ...manifest, closure }), 'the-manifest')
      assert.deepEqual(read.closure, infos)
    }),
    { numRuns: 50 },
  )
})

test('the closure has what verify needs, and no facts about its store', () => {
  const hex = '0'.repeat(64)
  const addressed = storePath(addressedPath('file', 'text', `sha256:${hex}`))
  const common = { narHash: hash(narHash), narSize: 5, signatures: ['key:signature'] }
  const infos = [
    { ...common, path: kernel, references: [kernel], deriver: toplevel },
    { ...common, path: addressed, references: [], ca: `text:sha256:${hex}` },
    // This content address belongs to another path, and no signature covers it.
    { ...common, path: toplevel, references: [], ca: `text:sha256:${hex}` },
    publishedInfo,
  ]
  const store = {
    url: 'x',
    trusted: false,
    priority: () => Promise.resolve(1),
    lookup: () => Promise.resolve(undefined),
    close: () => Promise.resolve(),
  }
  const fetch = () => Promise.reject(new Error('not to be fetched'))
  const entries = infos.map(
    (info) => [info.path, { info, stored: { info, fetch }, store }] as const,
  )
  assert.deepEqual(manifestClosure(new Map(entries)), [
    { path: kernel, narHash, narSize: 5, references: [kernel], public: false },
    {
      path: addressed,
      narHash,
      narSize: 5,
      references: [],
      ca: `text:sha256:${hex}`,
      public: false,
    },
    { path: toplevel, narHash, narSize: 5, references: [], public: false },
    {
      path: publishedInfo.path,
      narHash: formatHash(publishedInfo.narHash),
      narSize: publishedInfo.narSize,
      references: publishedInfo.references,
      public: true,
    },
  ])
})

suite('a manifest is refused', () => {
  /** @param keys the place of the mistake; the error may name a value around it or inside it */
  function assertRefused(text: string, keys = ''): void {
    assert.throws(
      () => parseManifest(text, 'the-manifest'),
      (error) => {
        assertError(error, 'image-damaged', { file: 'the-manifest' })
        const field = error.details.field ?? ''
        assert.ok(
          keys.startsWith(field) || field.startsWith(keys),
          `${keys} is wrong, not ${field}`,
        )
        return true
      },
    )
  }

  test('that is not JSON', () => {
    const text = formatManifest(manifest)
    for (const broken of ['', 'null x', '<html>', text.slice(0, -3), `\u{feff}${text}`]) {
      assertRefused(broken)
    }
  })

  test('that is JSON of another kind', () => {
    for (const text of ['null', '1', '"x"', '[]', '{}']) assertRefused(text)
  })

  /** The manifest with one value changed or removed. */
  function changed(keys: string, value?: unknown): string {
    const root: unknown = structuredClone(manifest)
    const path = keys.split('.')
    const last = path.pop() ?? ''
    let place: unknown = root
    for (const key of path) place = Object(place)[key]
    assert.ok(typeof place === 'object' && place !== null, keys)
    if (value === undefined) Reflect.deleteProperty(place, last)
    else Reflect.set(place, last, value)
    return JSON.stringify(root)
  }

  const mandatory = [
    ['version', 'system', 'system.toplevel', 'system.label', 'system.platform', 'system.entries'],
    ['system.entries.0.kernel', 'system.entries.0.init', 'system.entries.0.kernelParams'],
    ['system.fileSystems', 'options', 'options.nfsRoot', 'options.rootDirectoryName', 'closure'],
    ['closure.0.path', 'closure.0.narHash', 'closure.0.narSize', 'closure.0.references', 'root'],
    ['root.format', 'root.owner', 'root.owner.uid', 'root.files', 'root.files.0.type', 'boot'],
    ['root.files.0.path', 'root.files.0.mode', 'root.files.1.sha256', 'root.files.2.target'],
    ['boot.files'],
  ].flat()
  for (const keys of mandatory) {
    test(`without ${keys}`, () => {
      assertRefused(changed(keys), keys)
    })
  }

  const wrong: [keys: string, values: unknown[]][] = [
    ['version', [0, 2, '1', null]],
    ['system.toplevel', ['/etc', '', `${toplevel}/init`, 5]],
    ['system.entries', [{}, [1], ['x']]],
    ['options.nfsRoot', ['nowhere', 5]],
    ['options.rootDirectoryName', ['../..', 'boot', '', 'a/b', '.']],
    ['options.storePaths', [['/etc'], 'x']],
    ['options.unknown', ['x']],
    ['closure.0.path', ['/etc', toplevel.slice(11), `${toplevel}/`]],
    ['closure.0.narHash', ['', 'sha256:0', `sha1:${'0'.repeat(40)}`, narHash.slice(7)]],
    ['closure.0.narSize', [0, -1, 1.5, '120', 2 ** 53, null]],
    ['closure.0.references', [['x'], [5], 'x', [`${toplevel}\n`]]],
    ['root.format', ['zip', '', null]],
    ['root.owner.uid', [1, '0']],
    ['root.files.0.type', ['fifo', '']],
    ['root.files.0', [{ type: 'file', path: 'x', mode: '0755' }]],
    ['root.files.0.path', ['', 5]],
    ['root.files.0.mode', ['755', '08755', '0888', 493]],
    ['root.files.1.size', [-1, 0.5, 2 ** 53, '3']],
    ['root.files.1.sha256', ['', 'x'.repeat(64), 'A'.repeat(64), 'a'.repeat(63)]],
    ['boot.files', [{}, [{}], null]],
  ]
  for (const [keys, values] of wrong) {
    for (const value of values) {
      test(`whose ${keys} is ${JSON.stringify(value)}`, () => {
        assertRefused(changed(keys, value), keys)
      })
    }
  }

  test('or is valid, for any JSON in it', () => {
    const keys = fc.constantFrom(...mandatory, '__proto__', 'constructor', 'toString')
    fc.assert(
      fc.property(fc.oneof(fc.json(), fc.tuple(keys, fc.jsonValue())), (input) => {
        const text = typeof input === 'string' ? input : changed(...input)
        try {
          const read = parseManifest(text, 'the-manifest')
          for (const { narSize } of read.closure) assert.ok(narSize > 0)
        } catch (error) {
          assertError(error, 'image-damaged')
        }
      }),
      { numRuns: 1000 },
    )
  })
})

suite('an image', () => {
  test('is a directory with a manifest', async () => {
    const image = fresh()
    const file = join(image, manifestName)
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, formatManifest(manifest))
    assert.deepEqual((await readImage(image)).manifest, manifest)
  })

  test('is not a directory without a manifest', async () => {
    const [nothing, file, directory] = [fresh(), fresh(), fresh()]
    writeFileSync(file, '')
    mkdirSync(directory)
    for (const path of [nothing, file, directory]) {
      await assert.rejects(readImage(path), netimageError('not-an-image', { file: path }))
    }
  })

  test('cannot be read if its manifest is a directory', async () => {
    const image = fresh()
    mkdirSync(join(image, manifestName), { recursive: true })
    await assert.rejects(
      readImage(image),
      netimageError('file-system', { file: join(image, manifestName) }),
    )
  })
})
