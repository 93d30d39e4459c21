// Real Nix checks an image with store paths of every shape, from stores that real Nix made.

import assert from 'node:assert/strict'
import { appendFileSync, chmodSync, cpSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { lstatSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { verifyImage } from '../../src/index.ts'
import { closureInfos } from '../../src/nix/closure.ts'
import { formatHash } from '../../src/nix/hash.ts'
import { netimageError } from '../support/errors.ts'
import { closureFetcher } from '../support/fetch-closure.ts'
import { assertFailed, netimage, netimageJson, parseObject } from '../support/netimage.ts'
import { nixAccepts } from '../support/nix-accepts.ts'
import { compressions, runProgram, type Compression } from '../support/real-nix.ts'
import { buildSystemOfShapes, type TestSystem } from '../support/systems.ts'
import { assertSameLines, describeTree } from '../support/trees.ts'
import { makeWorkspace, type Workspace } from '../support/workspace.ts'

const rootName = 'nixos-net-image-25.11.20261122.test-x86_64-linux'
const rootOf = (image: string) => join(image, 'net-image', rootName)
const storeOf = (image: string) => join(rootOf(image), 'nix/store')
const manifestOf = (image: string) => join(image, 'nix-support/net-image.json')

/** Compressing takes Nix many seconds for all paths, so most caches have only some of them. */
const someShapes = ['oddNames', 'notUtf8Names', 'sizes', 'deep', 'selfReference', 'executables']

const fetchClosure = closureFetcher()

suite('an image of every shape', () => {
  let workspace: Workspace
  let system: Awaited<ReturnType<typeof buildSystemOfShapes>>
  const cache = (compression: Compression) => workspace.path(`cache-${compression}`)
  const image = (name: string) => workspace.path('images', name)

  const build = (name: string, { toplevel, key }: TestSystem, from: string, ...more: string[]) =>
    netimageJson([
      ...['build', toplevel, '-o', image(name), '--from', from],
      ...['--trusted-public-keys', key.publicKey],
      ...['--pool', workspace.path(`pool-${name}`), ...more],
    ])

  before(async () => {
    workspace = makeWorkspace('shapes')
    system = await buildSystemOfShapes(workspace.path('world'))
    const { world, shapes } = system
    const { secretKeyFile } = system.key
    const some = someShapes.map((name) => shapes[name] ?? '')
    await Promise.all(
      compressions.map((compression) => {
        const paths = compression === 'none' ? [system.toplevel] : some
        return world.copyToCache(paths, cache(compression), { compression, secretKeyFile })
      }),
    )
    await build('none', system, `file://${cache('none')}`)
    await build('boot', system, `file://${cache('none')}`, ...withCommands())
  })
  after(() => workspace.remove())

  /** Commands that make files in both trees. */
  const withCommands = () => [
    '--populate-firmware-commands',
    'for name in config gone mode; do echo $name > $name.txt; done; ln -s x link',
    ...['--populate-root-commands', 'mkdir files/etc; echo test > files/etc/hostname'],
    ...['--pool', workspace.path('pool-none')],
  ]

  /** The NAR hash of each store path in a directory, computed by real Nix. */
  async function hashStore(store: string): Promise<Map<string, string>> {
    const names = readdirSync(store)
    // nix-hash hashes what `nix-store --dump` prints.
    const paths = names.map((name) => join(store, name))
    const output = await runProgram('nix-hash', ['--type', 'sha256', '--base32', ...paths], {})
    const hashes = output.trim().split('\n')
    return new Map(names.map((name, index) => [`/nix/store/${name}`, `sha256:${hashes[index]}`]))
  }

  async function expectedHashes({ world, paths }: TestSystem): Promise<Map<string, string>> {
    const hashes = (await world.nixStore(['--query', '--hash', ...paths])).trim().split('\n')
    return new Map(paths.map((path, index) => [path, hashes[index] ?? '']))
  }

  const sorted = (map: Map<string, string>) => [...map].sort(([a], [b]) => (a < b ? -1 : 1))

  test('every store path has the NAR hash that Nix knows', async () => {
    const expected = sorted(await expectedHashes(system))
    assert.deepEqual(sorted(await hashStore(storeOf(image('none')))), expected)
    const { closure } = parseObject(readFileSync(manifestOf(image('none')), 'utf8'))
    assert.ok(Array.isArray(closure))
    const recorded = closure.map(({ path, narHash }: { path: string; narHash: string }) => [
      path,
      narHash,
    ])
    assert.deepEqual(recorded, expected)
  })

  test('the image has the same modes and bytes as files that Nix restores', async () => {
    // Nix sets the same modes and times in its store, and here it does not link equal files.
    const ofNix = system.paths.map((path) => describeTree(system.world.realPath(path)))
    const ours = system.paths.map((path) => describeTree(join(rootOf(image('none')), path)))
    assertSameLines(ours.flat(), ofNix.flat())
  })

  test('Nix loads the registration and finds every path whole', async () => {
    const root = workspace.path('accepted')
    await runProgram('cp', ['-a', rootOf(image('none')), root])
    const { paths, nixStore } = await nixAccepts(root, workspace.path('home'))
    assert.deepEqual(paths, system.paths)
    const query = ['--query', '--requisites', system.toplevel]
    assert.deepEqual((await nixStore(query)).trim().split('\n').sort(), system.paths)
    const { selfReference = '' } = system.shapes
    const self = await nixStore(['--query', '--references', selfReference])
    assert.equal(self.trim(), selfReference)
  })

  test('Nix finds a wrong byte', async () => {
    const root = workspace.path('not-accepted')
    await runProgram('cp', ['-a', rootOf(image('none')), root])
    appendFileSync(join(root, system.shapes['file'] ?? ''), 'x')
    await assert.rejects(nixAccepts(root, workspace.path('home-2')), /was modified/)
  })

  /** Fetches the system, verified by its signatures, and compares it with what Nix knows. */
  async function assertFetches(name: string, from: string[]): Promise<void> {
    const closure = await fetchClosure({
      ...{ root: system.toplevel, from, pool: workspace.path(`pool-${name}`) },
      trustedPublicKeys: [system.key.publicKey],
    })
    const hashes = closureInfos(closure).map(({ path, narHash }) => [path, formatHash(narHash)])
    assert.deepEqual(hashes, sorted(await expectedHashes(system)))
  }

  // An image from the pool is the same, wherever the paths came from: see the next test.
  for (const compression of compressions) {
    if (compression === 'none') continue
    test(`a cache compressed with ${compression} gives the same paths`, async () => {
      const [some, all] = [`file://${cache(compression)}`, `file://${cache('none')}`]
      await assertFetches(compression, [some, all])
    })
  }

  test('a local store gives the same paths', () =>
    assertFetches('local', [`local?root=${system.world.storeRoot}&trusted=true`]))

  test('the second build from the pool gives the same image', async () => {
    const pool = workspace.path('pool-none')
    const before = readdirSync(join(pool, 'trees')).sort()
    await build('again', system, `file://${cache('none')}`, '--pool', pool)
    assert.deepEqual(readdirSync(join(pool, 'trees')).sort(), before)
    assertSame(image('again'), image('none'))
  })

  test('hard links give the same image', async () => {
    const pool = workspace.path('pool-none')
    await build('linked', system, `file://${cache('none')}`, '--link', 'hardlink', '--pool', pool)
    assertSame(image('linked'), image('none'))
    const file = join(rootOf(image('linked')), system.shapes['file'] ?? '')
    assert.ok(lstatSync(file).nlink > 1)
    const copied = join(rootOf(image('none')), system.shapes['file'] ?? '')
    assert.equal(lstatSync(copied).nlink, 1)
  })

  /** Compares two images, with modes, times and names that are not text. */
  function assertSame(actual: string, expected: string): void {
    for (const tree of ['net-image/boot', `net-image/${rootName}`]) {
      assertSameLines(describeTree(join(actual, tree)), describeTree(join(expected, tree)))
    }
    // The booted machine does not see these files, so their times may differ.
    assertSameLines(
      describeTree(actual, { times: false }),
      describeTree(expected, { times: false }),
    )
  }

  test('everything in the trees has the time stamp 1, and belongs to root if root builds', () => {
    const lines = describeTree(join(image('none'), 'net-image', rootName))
    const owner =
      process.geteuid?.() === 0 ? '0:0' : `${process.geteuid?.()}:${process.getegid?.()}`
    const others = lines.filter((line) => !line.includes(` mtime 1000 ${owner}`))
    assert.deepEqual(others, [])
  })

  suite('verify', { concurrency: 2 }, () => {
    test('finds nothing wrong with an image that is whole', async () => {
      const run = await netimage(['verify', image('none'), '--quiet'])
      assert.equal(run.status, 0)
      assert.match(run.stdout, /^\S+ is whole: \d+ store paths and \d+ other files\n$/)
      assert.ok(run.stdout.startsWith(`${image('none')} is whole: ${system.paths.length} `))
    })

    const inRoot = (path: string) => join('net-image', rootName, path)
    const shape = (name: string) => system.shapes[name] ?? ''

    /** Changes to a copy of an image, and the paths that verify must name. */
    const damages: Record<string, { damage: (copy: string) => void; where: () => string[] }> = {
      'a byte of a file in a store path': {
        damage: (copy) => flipByte(join(rootOf(copy), shape('large'), 'incompressible')),
        where: () => [inRoot(shape('large'))],
      },
      'a store path that is a file': {
        damage: (copy) => writeFileSync(writable(join(rootOf(copy), shape('file'))), 'other\n'),
        where: () => [inRoot(shape('file'))],
      },
      'a file that became a directory': {
        damage(copy) {
          rmSync(join(rootOf(copy), shape('emptyFile')))
          mkdirSync(join(rootOf(copy), shape('emptyFile')))
        },
        where: () => [inRoot(shape('emptyFile'))],
      },
      'a link that leads elsewhere': {
        damage(copy) {
          rmSync(join(rootOf(copy), shape('danglingSymlink')))
          symlinkSync('/somewhere/else', join(rootOf(copy), shape('danglingSymlink')))
        },
        where: () => [inRoot(shape('danglingSymlink'))],
      },
      'an executable that no longer is': {
        damage: (copy) => chmodSync(join(rootOf(copy), shape('executableFile')), 0o444),
        where: () => [inRoot(shape('executableFile'))],
      },
      'a name that differs in case': {
        damage(copy) {
          const directory = writable(join(rootOf(copy), shape('empties')))
          renameSync(join(directory, 'file'), join(directory, 'File'))
        },
        where: () => [inRoot(shape('empties'))],
      },
      'a store path that is gone': {
        damage: (copy) => rmSync(join(rootOf(copy), shape('symlink'))),
        where: () => [inRoot(shape('symlink'))],
      },
      'a store path that nobody registered': {
        damage: (copy) => writeFileSync(join(storeOf(copy), 'stray'), ''),
        where: () => [inRoot('nix/store/stray')],
      },
      'a stray file in the root': {
        damage: (copy) => writeFileSync(join(rootOf(copy), 'stray'), ''),
        where: () => [inRoot('stray')],
      },
      'the mode of a directory in the root': {
        damage: (copy) => chmodSync(join(rootOf(copy), 'nix'), 0o700),
        where: () => [inRoot('nix')],
      },
      'the mode of the root itself': {
        damage: (copy) => chmodSync(rootOf(copy), 0o700),
        where: () => [join('net-image', rootName)],
      },
      'the registration': {
        damage(copy) {
          const file = join(rootOf(copy), 'nix-path-registration')
          const text = readFileSync(file, 'utf8')
          writeFileSync(file, text.replace(/sha256:./, 'sha256:0'))
        },
        where: () => [inRoot('nix-path-registration'), inRoot('nix-path-registration')],
      },
      'a file in the boot tree': {
        damage: (copy) => appendFileSync(join(copy, 'net-image/boot/config.txt'), 'more'),
        where: () => ['net-image/boot/config.txt'],
      },
      'a boot file, gone': {
        damage: (copy) => rmSync(join(copy, 'net-image/boot/gone.txt')),
        where: () => ['net-image/boot/gone.txt'],
      },
      'the mode of a boot file': {
        damage: (copy) => chmodSync(join(copy, 'net-image/boot/mode.txt'), 0o600),
        where: () => ['net-image/boot/mode.txt'],
      },
      'a link in the boot tree': {
        damage(copy) {
          rmSync(join(copy, 'net-image/boot/link'))
          symlinkSync('elsewhere', join(copy, 'net-image/boot/link'))
        },
        where: () => ['net-image/boot/link'],
      },
      'a file in none of the trees': {
        damage: (copy) => writeFileSync(join(copy, 'net-image/more'), ''),
        where: () => ['net-image/more'],
      },
      'a file beside all': {
        damage: (copy) => writeFileSync(join(copy, 'more'), ''),
        where: () => ['more'],
      },
    }

    const removals: typeof damages = {
      'the registration': {
        damage: (copy) => rmSync(join(rootOf(copy), 'nix-path-registration')),
        where: () => [inRoot('nix-path-registration'), inRoot('nix-path-registration')],
      },
      'the whole boot tree': {
        damage: (copy) => rmSync(join(copy, 'net-image/boot'), { recursive: true }),
        where: () => ['net-image/boot'],
      },
      'the whole store': {
        damage: (copy) => renameSync(join(rootOf(copy), 'nix'), join(copy, 'nix')),
        where: () => ['nix', inRoot('nix/store'), inRoot('nix'), inRoot('nix/store')],
      },
    }

    // Each change has its own path, so that one image can have them all.
    test('finds every kind of damage, and nothing else', async () => {
      const copy = await copyOf('boot')
      for (const { damage } of Object.values(damages)) damage(copy)
      const { findings } = await verifyImage({ image: copy })
      const expected = Object.values(damages).flatMap(({ where }) => where())
      assert.deepEqual(findings.map(({ path }) => path).sort(), expected.sort())
    })

    for (const [what, { damage, where }] of Object.entries(removals)) {
      test(`finds ${what}, gone`, async () => {
        const copy = await copyOf('boot')
        damage(copy)
        const { findings } = await verifyImage({ image: copy })
        assert.deepEqual(findings.map(({ path }) => path).sort(), where().sort())
      })
    }

    test('ignores time stamps, which a copy of an image may have lost', async () => {
      const copy = await copyOf('boot')
      utimesSync(join(rootOf(copy), shape('file')), 5, 5)
      assert.deepEqual((await verifyImage({ image: copy })).findings, [])
    })

    const manifests: Record<string, (text: string) => string> = {
      'cut off': (text) => text.slice(0, -100),
      empty: () => '',
      'of another version': (text) => text.replace('"version": 1', '"version": 2'),
      'that is no object': () => '[]',
      'with a path outside the store': (text) =>
        text.replace(/"path": "\/nix\/store\/[^"]*"/, '"path": "/nix/store/../../etc"'),
      'with a root outside the image': (text) =>
        text.replace(/"rootDirectoryName": "[^"]*"/, '"rootDirectoryName": "../.."'),
      'with a hash that is none': (text) => text.replace(/"narHash": "[^"]*"/, '"narHash": "x"'),
    }
    for (const [what, change] of Object.entries(manifests)) {
      test(`refuses a manifest ${what}`, async () => {
        const text = readFileSync(manifestOf(image('boot')), 'utf8')
        assert.notEqual(change(text), text)
        const copy = image(`manifest-${copies++}`)
        mkdirSync(join(copy, 'nix-support'), { recursive: true })
        writeFileSync(manifestOf(copy), change(text))
        await assert.rejects(
          verifyImage({ image: copy }),
          netimageError('image-damaged', { file: manifestOf(copy) }),
        )
      })
    }

    test('reports damage in its output and its status', async () => {
      const copy = await copyOf('boot')
      rmSync(join(copy, 'net-image/boot/config.txt'))
      const run = await netimage(['verify', copy, '--quiet'])
      assert.deepEqual(run, {
        ...{ status: 4, signal: null, stderr: '' },
        stdout: 'net-image/boot/config.txt: it is missing\n',
      })
      writeFileSync(manifestOf(copy), '')
      const second = await netimage(['verify', copy])
      assert.match(second.stderr, /^error: .* \[image-damaged\]$/m)
      assert.deepEqual([second.status, second.stdout], [4, ''])
    })

    test('refuses a directory that is not an image', async () => {
      for (const path of [workspace.directory, '/nowhere', manifestOf(image('none'))]) {
        const run = await netimage(['verify', path, '--json'])
        assertFailed(run, 'not-an-image', { file: path })
        assert.equal(run.status, 3)
      }
    })

    let copies = 0
    async function copyOf(name: string): Promise<string> {
      const copy = image(`${name}-copy-${copies++}`)
      await runProgram('cp', ['-a', image(name), copy])
      return copy
    }
  })

  suite('a tar archive', () => {
    const tarOf = (name: string) => join(image(name), 'net-image', `${rootName}.tar`)

    before(async () => {
      const options = [...withCommands(), '--format', 'tar']
      await build('tar', system, `file://${cache('none')}`, ...options)
    })

    for (const program of ['tar', 'bsdtar']) {
      test(`${program} unpacks the tree`, async () => {
        const directory = workspace.path(`untarred-${program}`)
        mkdirSync(directory)
        // `-p` keeps the modes. Nothing here needs root.
        await runProgram(program, ['-xpf', tarOf('tar'), '-C', directory])
        // bsdtar does not change the directory that it unpacks into.
        const [, ...expected] = describeTree(rootOf(image('boot')))
        assertSameLines(describeTree(directory).slice(1), expected)
      })

      test(`${program} finds root as the owner of everything`, async () => {
        const list = await runProgram(program, ['--numeric-owner', '-tvf', tarOf('tar')])
        const lines = list.trimEnd().split('\n')
        assert.ok(lines.length > system.paths.length)
        const owner = program === 'tar' ? / 0\/0 / : /^\S+ +\d+ 0 +0 /
        assert.deepEqual(
          lines.filter((line) => !owner.test(line)),
          [],
        )
      })
    }

    test('the manifest differs from that of the directory only by the archive', () => {
      const read = (name: string) => parseObject(readFileSync(manifestOf(image(name)), 'utf8'))
      const { root: tarRoot, ...ofTar } = read('tar')
      const { root: directoryRoot, ...ofDirectory } = read('boot')
      assert.deepEqual(ofTar, ofDirectory)
      assert.deepEqual(withoutArchive(tarRoot), withoutArchive(directoryRoot))
    })

    test('the archive replaces the root tree', () => {
      const names = readdirSync(join(image('tar'), 'net-image')).sort()
      assert.deepEqual(names, ['boot', basename(tarOf('tar'))])
    })

    test('two archives are the same', async () => {
      const options = [...withCommands(), '--format', 'tar']
      await build('tar-again', system, `file://${cache('none')}`, ...options)
      assertSameLines(
        describeTree(image('tar-again'), { times: false }),
        describeTree(image('tar'), { times: false }),
      )
    })

    test('verify compares it with its hash', async () => {
      const check = async (name: string) => (await verifyImage({ image: image(name) })).findings
      assert.deepEqual(await check('tar'), [])
      const copy = image('tar-damaged')
      cpSync(image('tar'), copy, { recursive: true, verbatimSymlinks: true })
      const archive = join(copy, 'net-image', basename(tarOf('tar')))
      flipByte(archive)
      const path = `net-image/${basename(archive)}`
      assert.deepEqual(
        (await check('tar-damaged')).map((finding) => finding.path),
        [path],
      )
      appendFileSync(archive, Buffer.alloc(512))
      assert.match((await check('tar-damaged'))[0]?.problem ?? '', /size/)
      rmSync(archive)
      assert.deepEqual(
        (await check('tar-damaged')).map((finding) => finding.path),
        [path],
      )
    })
  })
})

function flipByte(file: string): void {
  const bytes = readFileSync(file)
  const middle = bytes.length >> 1
  bytes.writeUInt8(bytes.readUInt8(middle) ^ 1, middle)
  writeFileSync(writable(file), bytes)
}

/** Ordinary users cannot write to store paths, which are read-only. */
function writable(path: string): string {
  chmodSync(path, lstatSync(path).mode | 0o200)
  return path
}

function withoutArchive(root: unknown): object {
  assert.ok(typeof root === 'object' && root !== null)
  return { ...root, format: undefined, tar: undefined }
}
