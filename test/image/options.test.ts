import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { extraRoots, parseOptions, settleOptions } from '../../src/image/options.ts'
import type { NetImageOptions } from '../../src/image/options.ts'
import { parseNfsRoot } from '../../src/nixos/nfs-root.ts'
import { assertError, netimageError } from '../support/errors.ts'

const path = `/nix/store/${'1'.repeat(32)}-one`

const everyOption: Required<NetImageOptions> = {
  imageBaseName: 'base',
  rootDirectoryName: 'the root',
  storePaths: [path, `${path}/bin/program`],
  nfsRoot: '10.0.0.1:/srv/nixos,v4',
  populateFirmwareCommands: 'cp x .',
  populateRootCommands: 'mkdir files/etc',
}

const parse = (input: unknown) => parseOptions(input, 'the-config')

suite('options', () => {
  test('all of them', () => assert.deepEqual(parse(everyOption), everyOption))

  test('none of them', () => {
    assert.deepEqual(parse({}), {})
    assert.deepEqual(parse(Object.create(null)), {})
  })

  test('one that is undefined is not set', () => {
    const parsed = parse({ nfsRoot: undefined, imageBaseName: 'base' })
    assert.deepEqual(Object.entries(parsed), [['imageBaseName', 'base']])
  })

  test('names may be any names of directories', () => {
    for (const name of [
      'a',
      '...',
      '.hidden',
      'with blanks',
      '-x',
      'ü',
      'b'.repeat(200),
      'boots',
    ]) {
      assert.equal(parse({ rootDirectoryName: name }).rootDirectoryName, name)
    }
  })
})

suite('an error names the option and the value', () => {
  const samples: [option: string, value: unknown][] = [
    ['imageBaseName', ''],
    ['imageBaseName', '.'],
    ['imageBaseName', '..'],
    ['imageBaseName', 'a/b'],
    ['imageBaseName', 'a\nb'],
    ['imageBaseName', 'a\0b'],
    ['imageBaseName', 'a b'],
    ['imageBaseName', 'a,v4'],
    ['imageBaseName', 'a'.repeat(201)],
    ['imageBaseName', 'ü'.repeat(101)],
    ['imageBaseName', null],
    ['rootDirectoryName', '../up'],
    ['rootDirectoryName', '..'],
    ['rootDirectoryName', 'boot'],
    ['rootDirectoryName', 5],
    ['nfsRoot', 'nowhere'],
    ['nfsRoot', '10.0.0.1:/a b'],
    ['nfsRoot', 'nfs://10.0.0.1/x'],
    ['nfsRoot', ['10.0.0.1:/x']],
    ['storePaths', path],
    ['storePaths.0', ['/etc']],
    ['storePaths.1', [path, '/nix/store']],
    ['storePaths.0', [1]],
    ['populateRootCommands', true],
    ['populateFirmwareCommands', ['cp', 'x']],
    ['populateFirmwareCommands', 10n],
    ['populateFirmwareCommands', () => 'x'],
    ['populateFirmwareCommands', Symbol('x')],
  ]
  for (const [option, value] of samples) {
    const [key = '', index] = option.split('.')
    const wrong = index !== undefined && Array.isArray(value) ? value[Number(index)] : value
    const shown = String(typeof wrong === 'string' ? JSON.stringify(wrong) : wrong)
    test(`${option}: ${shown.slice(0, 40)}`, () => {
      const actual = typeof wrong === 'string' ? { actual: shown.slice(0, 200) } : {}
      assert.throws(
        () => parse({ ...everyOption, [key]: value }),
        netimageError('bad-option', /the-config/, { field: option, ...actual }),
      )
    })
  }

  test('a value that contains itself, and a huge value', () => {
    const circle: unknown[] = []
    circle.push(circle)
    for (const value of [circle, Array.from({ length: 100_000 }, () => 'x')]) {
      assert.throws(
        () => parse({ nfsRoot: value }),
        (error) => {
          assertError(error, 'bad-option', { field: 'nfsRoot' })
          return error.message.length < 400
        },
      )
    }
  })
})

suite('an unknown option', () => {
  for (const name of ['nfsroot', 'imagebasename', 'storePath', '', 'x', 'image.base']) {
    test(JSON.stringify(name), () => {
      assert.throws(
        () => parse({ ...everyOption, [name]: 'x' }),
        (error) => {
          assertError(error, 'bad-option', /the-config/, { field: name })
          for (const known of Object.keys(everyOption)) assert.ok(error.hint?.includes(known))
          return true
        },
      )
    })
  }
})

suite('input that is not an object of options', () => {
  class Options {
    nfsRoot = '10.0.0.1:/x'
  }
  const inputs: Record<string, unknown> = {
    null: null,
    undefined,
    true: true,
    '5': 5,
    "'text'": 'text',
    '[]': [],
    '[ [ {} ] ]': [[{}]],
    'Promise {': Promise.resolve({}),
    '[Function: make]': function make() {},
    'Map(0) {}': new Map(),
    'Options {': new Options(),
  }
  for (const [shown, input] of Object.entries(inputs)) {
    test(shown, () => {
      assert.throws(
        () => parse(input),
        (error) => {
          assertError(error, 'bad-config', /the-config/)
          assert.ok(String(error.details.actual).includes(shown), error.message)
          return true
        },
      )
    })
  }
})

test('any input gives options or an error of ours', () => {
  const key = fc.oneof(fc.constantFrom(...Object.keys(everyOption), '__proto__'), fc.string())
  const anything = fc.oneof(fc.anything({ withBigInt: true }), fc.dictionary(key, fc.anything()))
  fc.assert(
    fc.property(anything, (input) => {
      try {
        const options = parse(input)
        for (const name of Object.keys(options)) assert.ok(Object.hasOwn(everyOption, name))
      } catch (error) {
        assert.ok(error instanceof Error && 'code' in error)
        assertError(error, error.code === 'bad-config' ? 'bad-config' : 'bad-option')
      }
    }),
    { numRuns: 500 },
  )
})

suite('an option that is not set', () => {
  const entry = { label: 'NixOS', kernel: '/k', initrd: '/i', init: '/init', kernelParams: [] }
  const system = {
    label: '25.11.20261122.abcdef',
    platform: 'aarch64-linux',
    entries: [entry],
    fileSystems: [{ device: '/dev/sda1', mountPoint: '/', type: 'ext4', options: ['defaults'] }],
  }
  const nfs = (device: string, options: string[], type = 'nfs') => [
    { device, mountPoint: '/', type, options },
  ]

  test('has the defaults of the Nix module', () => {
    assert.deepEqual(settleOptions({}, system), {
      imageBaseName: 'nixos-net-image',
      rootDirectoryName: 'nixos-net-image-25.11.20261122.abcdef-aarch64-linux',
      storePaths: [],
      nfsRoot: '192.168.0.108:/mnt/nfsshare/nixos-net-image-25.11.20261122.abcdef-aarch64-linux,v3',
      populateFirmwareCommands: '',
      populateRootCommands: '',
    })
  })

  test('follows from the base name if that is set', () => {
    const settled = settleOptions({ imageBaseName: 'pi' }, system)
    assert.equal(settled.rootDirectoryName, 'pi-25.11.20261122.abcdef-aarch64-linux')
    assert.equal(parseNfsRoot(settled.nfsRoot).path, `/mnt/nfsshare/${settled.rootDirectoryName}`)
  })

  test('is refused if the default name is too long for a file, with a hint', () => {
    const long = { ...system, label: 'x'.repeat(190) }
    assert.throws(
      () => settleOptions({}, long),
      (error) => {
        assertError(error, 'bad-option', { field: 'rootDirectoryName' })
        assert.match(error.hint ?? '', /--root-directory-name/)
        return true
      },
    )
    assert.equal(settleOptions({ rootDirectoryName: 'short' }, long).rootDirectoryName, 'short')
  })

  test('does not override an option that is set', () => {
    assert.deepEqual(settleOptions(everyOption, system), everyOption)
    const fileSystems = nfs('10.0.0.9:/srv/other', ['vers=3'])
    assert.deepEqual(settleOptions(everyOption, { ...system, fileSystems }), everyOption)
  })

  const roots = {
    'a version among the options': [
      nfs('10.0.0.5:/srv/pi', ['nolock', 'vers=3']),
      '10.0.0.5:/srv/pi,v3',
    ],
    'a version in the type': [
      nfs('server.lan:/srv/pi', ['defaults'], 'nfs4'),
      'server.lan:/srv/pi,v4',
    ],
    'no version': [nfs('10.0.0.5:/srv/pi', ['defaults']), '10.0.0.5:/srv/pi'],
    'an IPv6 address': [nfs('[fd00::1]:/srv/pi', ['nfsvers=4.2']), '[fd00::1]:/srv/pi,v4.2'],
    'options in the device, by mistake': [
      nfs('10.0.0.5:/srv/pi,v3', ['defaults']),
      '10.0.0.5:/srv/pi',
    ],
  } as const
  for (const [what, [fileSystems, expected]] of Object.entries(roots)) {
    test(`follows from the root in the fstab: ${what}`, () => {
      const { nfsRoot } = settleOptions({}, { ...system, fileSystems })
      assert.equal(nfsRoot, expected)
      assert.doesNotThrow(() => parseNfsRoot(nfsRoot))
    })
  }

  test('follows from a store that is mounted separately from the root tree', () => {
    const tmpfs = { device: 'tmpfs', mountPoint: '/', type: 'tmpfs', options: ['mode=755'] }
    const settled = (device: string) => {
      const fileSystems = [tmpfs, { device, mountPoint: '/nix/store', type: 'nfs4', options: [] }]
      return settleOptions({}, { ...system, fileSystems }).nfsRoot
    }
    assert.equal(settled('10.0.0.5:/srv/pi/nix/store'), '10.0.0.5:/srv/pi,v4')
    assert.match(settled('10.0.0.5:/srv/store'), /^192\.168\.0\.108:/)
  })

  test('follows from the kernel line if that names the root', () => {
    const kernelParams = ['root=/dev/nfs', 'nfsroot=10.0.0.7:/srv/line,v3']
    const byLine = { ...system, entries: [{ ...entry, kernelParams }] }
    assert.equal(settleOptions({}, byLine).nfsRoot, '10.0.0.7:/srv/line,v3')
    const both = [{ ...entry, kernelParams: ['root=fstab', 'nfsroot=10.0.0.7:/srv/line'] }]
    const fileSystems = nfs('10.0.0.5:/srv/pi', ['vers=3'])
    const settled = settleOptions({}, { ...system, entries: both, fileSystems })
    assert.equal(settled.nfsRoot, '10.0.0.5:/srv/pi,v3')
  })

  test('does not follow from an invalid root on the kernel line', () => {
    const fileSystems = nfs('10.0.0.5:relative path', ['vers=3'])
    assert.match(settleOptions({}, { ...system, fileSystems }).nfsRoot, /^192\.168\.0\.108:/)
  })

  test('is a valid NFS root for every base name that is allowed', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (imageBaseName) => {
        try {
          parse({ imageBaseName })
        } catch {
          return
        }
        const { nfsRoot } = settleOptions({ imageBaseName }, system)
        const { path, version } = parseNfsRoot(nfsRoot)
        assert.equal(path, `/mnt/nfsshare/${imageBaseName}-25.11.20261122.abcdef-aarch64-linux`)
        assert.equal(version, '3')
      }),
    )
  })
})

test('more store paths are whole roots of the closure', () => {
  assert.deepEqual(extraRoots(everyOption), [path, path])
  assert.deepEqual(extraRoots({}), [])
})
