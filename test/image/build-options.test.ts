// Options from a config file and flags, and the place of the image. flake-hosts.slow.ts has the
// options of a module.

import assert from 'node:assert/strict'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { readImage } from '../../src/image/manifest.ts'
import { openStaging } from '../../src/image/staging.ts'
import { netimageError } from '../support/errors.ts'
import { assertFailed, assertWhole, netimage, parseObject, type Run } from '../support/netimage.ts'
import { cachedPath, inventPath, inventSystem, makeKey, writeCache } from '../support/synthetic.ts'
import { temporaryDirectory } from '../support/temporary.ts'
import { describeTree } from '../support/trees.ts'
import { makeWorkspace, type Workspace } from '../support/workspace.ts'

const key = makeKey('options-1')
const { toplevel, kernel } = inventSystem('25.11.test', [], [key])
const library = cachedPath(inventPath('library'), { file: 'library\n' }, { keys: [key] })
const tree = { directory: { bin: { directory: { run: { file: 'run\n', executable: true } } } } }
const extra = cachedPath(inventPath('extra'), tree, { references: [library.path], keys: [key] })

const defaultName = 'nixos-net-image-25.11.test-x86_64-linux'

const noWarning = (message: string) => assert.fail(message)

type Setting = Workspace & { run: (...args: string[]) => Promise<Run> }

let shared: Workspace
before(() => {
  shared = makeWorkspace('options-cache')
  writeCache(shared.directory, [toplevel, kernel, library, extra])
})
after(() => shared.remove())

/** Builds in a new directory, with only the flags that are needed. */
async function inDirectory(action: (setting: Setting) => Promise<void>): Promise<void> {
  const workspace = makeWorkspace('options')
  const run = (...args: string[]) =>
    netimage(
      [
        ...['build', toplevel.path, '--from', `file://${shared.directory}`],
        ...['--trusted-public-keys', key.publicKey, '--pool', shared.path('pool'), '--json'],
        ...args,
      ],
      { cwd: workspace.directory },
    )
  try {
    await action({ ...workspace, run })
  } finally {
    workspace.remove()
  }
}

async function optionsOf(run: Run): Promise<{ options: object; root: string; image: string }> {
  assert.equal(run.status, 0, run.stderr)
  const { image, rootDirectoryName } = parseObject(run.stdout)
  assert.ok(typeof image === 'string' && typeof rootDirectoryName === 'string')
  const { options } = parseObject(readFileSync(join(image, 'nix-support/net-image.json'), 'utf8'))
  assert.ok(typeof options === 'object' && options !== null)
  return { options, root: join(image, 'net-image', rootDirectoryName), image }
}

const defaults = {
  imageBaseName: 'nixos-net-image',
  rootDirectoryName: defaultName,
  storePaths: [],
  nfsRoot: `192.168.0.108:/mnt/nfsshare/${defaultName},v3`,
  populateFirmwareCommands: '',
  populateRootCommands: '',
}

suite('options', { concurrency: 3 }, () => {
  test('have the defaults of the module', () =>
    inDirectory(async ({ run, directory }) => {
      const { options, image } = await optionsOf(await run())
      assert.deepEqual(options, defaults)
      // The image lies in the current directory, under the name of its root tree.
      assert.equal(image, join(directory, defaultName))
      assert.deepEqual(readdirSync(join(image, 'net-image')).sort(), ['boot', defaultName])
      await assertWhole(image)
    }))

  const set = {
    imageBaseName: 'lab',
    nfsRoot: '[fd00::1]:/srv/lab,vers=4.2,rsize=1048576',
    storePaths: [`${extra.path}/bin/run`],
    populateRootCommands: 'echo lab > files/name',
    populateFirmwareCommands: 'echo lab > name',
  }
  const expected = { ...defaults, ...set, rootDirectoryName: 'lab-25.11.test-x86_64-linux' }

  test('come from a config of the current directory', () =>
    inDirectory(async ({ run, path }) => {
      writeFileSync(path('name.ts'), `export const name: string = 'lab'\n`)
      writeFileSync(
        path('netimage.config.ts'),
        `
          import { defineNetImage, type NetImageOptions } from 'netimage'
          import { name } from './name.ts'
          const options: NetImageOptions = ${JSON.stringify({ ...set, imageBaseName: undefined })}
          export default defineNetImage({ ...options, imageBaseName: name })
        `,
      )
      const { options, root, image } = await optionsOf(await run())
      assert.deepEqual(options, expected)
      assert.equal(readFileSync(join(root, 'name'), 'utf8'), 'lab\n')
      assert.equal(readFileSync(join(image, 'net-image/boot/name'), 'utf8'), 'lab\n')
      // A path inside a store path adds the whole store path and its closure.
      const names = readdirSync(join(root, 'nix/store')).map((name) => `/nix/store/${name}`)
      const closure = [toplevel, kernel, extra, library].map((cached) => cached.path)
      assert.deepEqual(names.sort(), closure.sort())
    }))

  test('come from the file that --config names, and flags override it', () =>
    inDirectory(async ({ run, path }) => {
      writeFileSync(path('netimage.config.ts'), 'throw new Error("not this one")')
      writeFileSync(path('other.json'), JSON.stringify(set))
      const { options, image } = await optionsOf(
        await run(
          ...['--config', 'other.json', '--image-base-name', 'flag', '-o', 'there/is/an/image'],
          ...['--root-directory-name', 'root', '--nfs-root', '/srv/flag'],
          ...['--store-paths', library.path, '--store-paths', extra.path],
          ...['--populate-root-commands', '', '--populate-firmware-commands', 'echo > flag'],
        ),
      )
      assert.deepEqual(options, {
        imageBaseName: 'flag',
        rootDirectoryName: 'root',
        nfsRoot: '/srv/flag',
        storePaths: [library.path, extra.path],
        populateRootCommands: '',
        populateFirmwareCommands: 'echo > flag',
      })
      assert.equal(image, path('there/is/an/image'))
    }))

  // config.test.ts and options.test.ts have all other errors.
  test('with a wrong value: an error, and nothing is made', () =>
    inDirectory(async ({ run, directory }) => {
      const failed = await run('--root-directory-name', 'a/b')
      assert.equal(failed.status, 2, failed.stderr)
      assertFailed(failed, 'bad-option', { field: 'rootDirectoryName', actual: '"a/b"' })
      assert.deepEqual(readdirSync(directory), ['out'])
    }))

  test('of a config that throws: an error, and nothing is made', () =>
    inDirectory(async ({ run, path, directory }) => {
      const name = 'netimage.config.ts'
      writeFileSync(path(name), 'throw new Error("thrown on purpose")')
      const failed = await run()
      assert.equal(failed.status, 2, failed.stderr)
      assertFailed(failed, 'bad-config', { file: path(name) })
      assert.doesNotMatch(failed.stderr, /^\s+at /m)
      assert.deepEqual(readdirSync(directory).sort(), [name, 'out'])
    }))
})

suite('the place of the image', { concurrency: 3 }, () => {
  test('is not changed if an image exists there', () =>
    inDirectory(async ({ run, path }) => {
      await optionsOf(await run('-o', 'image'))
      const before = describeTree(path('image'))
      const failed = await run('-o', 'image/')
      assert.equal(failed.status, 2)
      const { hint } = assertFailed(failed, 'output-exists', { file: path('image') })
      assert.match(hint ?? '', /--force/)
      assert.deepEqual(describeTree(path('image')), before)
    }))

  test('gets a new image with --force, without files of the old one', () =>
    inDirectory(async ({ run, path }) => {
      await optionsOf(await run('-o', 'image', '--populate-firmware-commands', 'echo > old'))
      await optionsOf(await run('-o', 'image', '--force', '--image-base-name', 'new'))
      assert.ok(!existsSync(path('image/net-image/boot/old')))
      assert.deepEqual(readdirSync(path('image/net-image')).sort(), [
        'boot',
        'new-25.11.test-x86_64-linux',
      ])
      await assertWhole(path('image'))
    }))

  test('can be an empty directory with --force', async () => {
    const parent = temporaryDirectory()
    mkdirSync(join(parent, 'empty'))
    const staging = await openStaging(join(parent, 'empty'), true, noWarning)
    writeFileSync(join(staging.image, 'new'), '')
    await staging.publish()
    staging.close()
    assert.deepEqual(readdirSync(parent), ['empty'])
    assert.deepEqual(readdirSync(join(parent, 'empty')), ['new'])
  })

  const others: Record<string, (path: string) => void> = {
    'a file': (path) => writeFileSync(path, 'mine'),
    'a directory of something else': (path) => {
      mkdirSync(path)
      writeFileSync(join(path, 'mine'), '')
    },
    'what Nix built': (path) => {
      mkdirSync(join(path, 'nix-support'), { recursive: true })
      writeFileSync(join(path, 'nix-support/hydra-build-products'), '')
      writeFileSync(join(path, 'mine'), '')
    },
    'a link to a directory': (path) => {
      mkdirSync(`${path}-target`)
      symlinkSync(`${path}-target`, path)
    },
    'a link to nothing': (path) => symlinkSync('/nowhere/at/all', path),
  }
  for (const [what, make] of Object.entries(others)) {
    test(`that is ${what} is never replaced`, async () => {
      const parent = temporaryDirectory()
      const other = join(parent, 'other')
      make(other)
      const before = describeTree(parent, { times: false })
      const refused = netimageError('output-exists', { file: other })
      await assert.rejects(openStaging(other, true, noWarning), refused)
      assert.deepEqual(describeTree(parent, { times: false }), before)
    })
  }

  test('below a file is an error', async () => {
    const file = join(temporaryDirectory(), 'file')
    writeFileSync(file, '')
    const staging = openStaging(join(file, 'image'), false, noWarning)
    await assert.rejects(staging, netimageError('file-system'))
  })
})

test('the manifest records where the files of the boot tree come from', async () => {
  await inDirectory(async ({ run, path }) => {
    mkdirSync(path('loaders'))
    writeFileSync(path('loaders/undionly.kpxe'), 'loader')
    const commands = 'echo own > own.txt; echo "# more" >> "$bootfs/boot.ipxe"'
    const { image } = await optionsOf(
      await run(
        ...['--boot', 'extlinux', '--boot', 'ipxe', '--ipxe', path('loaders')],
        ...['--machine', '02:00:00:00:00:01', '--populate-firmware-commands', commands],
      ),
    )
    const { manifest } = await readImage(image)
    assert.deepEqual(manifest.boot.made, {
      ways: ['extlinux', 'ipxe'],
      machines: ['02:00:00:00:00:01'],
      signed: false,
      fromSettings: ['undionly.kpxe'],
      fromCommands: ['boot.ipxe', 'own.txt'],
    })
  })
})
