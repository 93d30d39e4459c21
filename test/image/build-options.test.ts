// Options from a config file and flags, the place of the image, and systems by name, even hosts of
// a flake that real Nix builds.

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
import * as v from 'valibot'
import { verifyImage } from '../../src/index.ts'
import { readImage } from '../../src/image/manifest.ts'
import { openStaging } from '../../src/image/staging.ts'
import { netimageError } from '../support/errors.ts'
import {
  assertFailed,
  assertWhole,
  failureOf,
  netimage,
  parseObject,
  startNetimage,
  type Run,
} from '../support/netimage.ts'
import {
  createNixWorld,
  findStaticBusybox,
  runProgram,
  type NixWorld,
} from '../support/real-nix.ts'
import { cachedPath, inventPath, inventSystem, makeKey, writeCache } from '../support/synthetic.ts'
import { temporaryDirectory } from '../support/temporary.ts'
import { describeTree } from '../support/trees.ts'
import { waitFor, waitUntil } from '../support/waiting.ts'
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
    await workspace.remove()
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

suite('a host of a flake', { concurrency: 2 }, () => {
  let workspace: Workspace
  let world: NixWorld
  const flake = () => workspace.path('flake')

  before(async () => {
    workspace = makeWorkspace('flake')
    world = await createNixWorld(workspace.path('world'))
    mkdirSync(join(flake(), 'tools'), { recursive: true })
    await runProgram('cp', [await findStaticBusybox(), join(flake(), 'tools/busybox')])
    writeFileSync(join(flake(), 'flake.nix'), flakeText)
    // Two Nix processes cannot make the same new store at the same time.
    await world.nixStore(['--verify'])
  })
  after(() => workspace.remove())

  const processors: Partial<Record<string, string>> = { arm64: 'aarch64', x64: 'x86_64' }
  const moduleSettings = {
    imageBaseName: 'from-the-module',
    nfsRoot: '10.0.0.1:/srv/module,v3',
    populateRootCommands: 'echo module > files/from',
    boot: ['extlinux'],
    machines: ['dc:a6:32:01:02:03'],
    silence: ['root-not-nfs'],
  }
  const flakeText = `
    {
      outputs = { self }:
        let
          derive = name: script: derivation {
            inherit name;
            system = "${processors[process.arch] ?? process.arch}-linux";
            builder = "\${./tools}/busybox";
            args = [ "sh" "-euc" script ];
            busybox = "\${./tools}/busybox";
          };
          make = script: {
            config.system.build.toplevel = derive "nixos-system-flake-25.11" script;
          };
          add = netImage: {
            config.system.build = self.nixosConfigurations.pi.config.system.build // { inherit netImage; };
          };
          say = json: add {
            settings = derive "settings.json" "$busybox cp \${builtins.toFile "json" json} $out";
          };
        in {
          nixosConfigurations.pi = make ''
            $busybox mkdir $out
            for file in init kernel; do echo $file > $out/$file; done
            printf 25.11.flake > $out/nixos-version
            printf aarch64-linux > $out/system
            printf root=fstab > $out/kernel-params
          '';
          nixosConfigurations.other-host = self.nixosConfigurations.pi;
          nixosConfigurations.with-module = say ''${JSON.stringify(moduleSettings)}'';
          nixosConfigurations.with-another-module = add { };
          nixosConfigurations.with-typing-error = say ''{ "silence": [ "no-rule" ] }'';
          nixosConfigurations.broken = make "echo what the builder said >&2; exit 1";
          nixosConfigurations.slow = make "$busybox sleep 1000";
          packages.system = self.nixosConfigurations.pi.config.system.build.toplevel;
        };
    }
  `

  const environment = () => ({
    NIX_CONF_DIR: workspace.path('world/conf'),
    NIX_USER_CONF_FILES: '',
    NIX_CONFIG: [
      ...[`store = ${world.storeRoot}`, 'substituters =', 'build-users-group ='],
      ...['sandbox-paths =', 'fsync-metadata = false', 'flake-registry ='],
    ].join('\n'),
  })

  let builds = 0
  const command = (name: string) => [
    ...['build', name, '--from', `local?root=${world.storeRoot}`, '--no-check-sigs', '--json'],
    ...['--pool', workspace.path('pool'), '-o', workspace.path('images', `${builds++}`)],
  ]
  const build = (name: string, cwd: string, env = {}) =>
    netimage(command(name), { cwd, env: { ...environment(), ...env } })

  for (const name of ['./#pi', '.#with-module', '.#packages.system']) {
    test(`${name} is built by real Nix, which keeps it only while it is read`, async () => {
      const temporary = temporaryDirectory()
      const commands = ['--populate-root-commands', 'nix-store --gc --print-roots > files/roots']
      const run = await netimage([...command(name), ...commands], {
        cwd: flake(),
        env: { ...environment(), TMPDIR: temporary },
      })
      assert.equal(run.status, 0, run.stderr)
      const { image, label, platform, rootDirectoryName, toplevel } = parseObject(run.stdout)
      assert.deepEqual([label, platform], ['25.11.flake', 'aarch64-linux'])
      assert.match(String(toplevel), /^\/nix\/store\/[^/]+-nixos-system-flake-25\.11$/)
      const file = join(String(image), 'net-image', String(rootDirectoryName), 'roots')
      const roots = readFileSync(file, 'utf8').split('\n')
      const isOurs = (line: string) =>
        line.startsWith(`${temporary}/`) && line.endsWith(` -> ${String(toplevel)}`)
      assert.ok(roots.some(isOurs), roots.join('\n'))
      assert.deepEqual(readdirSync(temporary), [])
      assert.deepEqual((await verifyImage({ image: String(image) })).findings, [])
    })
  }

  test('can be named from another directory, and by any attribute', async () => {
    for (const name of [`path:${flake()}#pi`, `${flake()}#other-host`]) {
      const run = await build(name, workspace.directory)
      assert.equal(run.status, 0, run.stderr)
    }
  })

  test('with netimage’s module: a flag and a config file override its options', async () => {
    const run = await build('.#with-module', flake())
    assert.equal(run.status, 0, run.stderr)
    const { image, rootDirectoryName, nfsRoot, findings } = parseObject(run.stdout)
    assert.equal(rootDirectoryName, 'from-the-module-25.11.flake-aarch64-linux')
    assert.equal(nfsRoot, moduleSettings.nfsRoot)
    assert.doesNotMatch(JSON.stringify(findings), /root-not-nfs/)
    const tree = join(String(image), 'net-image')
    assert.equal(readFileSync(join(tree, rootDirectoryName, 'from'), 'utf8'), 'module\n')
    assert.ok(existsSync(join(tree, 'boot/pxelinux.cfg/01-dc-a6-32-01-02-03')))
    assert.doesNotMatch(run.stderr, /no netimage module/)

    const config = workspace.path('some.config.json')
    writeFileSync(config, '{ "imageBaseName": "from-a-file", "silence": [] }')
    const flags = ['--config', config, '--nfs-root', '10.0.0.2:/srv/flag,v3']
    const other = await netimage([...command('.#with-module'), ...flags], {
      cwd: flake(),
      env: environment(),
    })
    const second = parseObject(other.stdout)
    assert.equal(second['rootDirectoryName'], 'from-a-file-25.11.flake-aarch64-linux')
    assert.equal(second['nfsRoot'], '10.0.0.2:/srv/flag,v3')
  })

  test('check and inspect use the options of the module, like build', async () => {
    const look = async (command: string, host: string) => {
      const flags = ['--from', `local?root=${world.storeRoot}`, '--no-check-sigs', '--json']
      const pool = ['--pool', workspace.path('pool')]
      const run = await netimage([command, host, ...flags, ...pool], {
        cwd: flake(),
        env: environment(),
      })
      return parseObject(run.stdout)
    }
    const rules = async (host: string) => JSON.stringify((await look('check', host)).findings)
    assert.match(await rules('.#pi'), /root-not-nfs/)
    assert.doesNotMatch(await rules('.#with-module'), /root-not-nfs/)
    const { nfsRoot } = await look('inspect', '.#with-module')
    assert.ok(
      v.is(v.object({ server: v.literal('10.0.0.1'), path: v.literal('/srv/module') }), nfsRoot),
    )
  })

  test('without the module: the warning names the lines to add', async () => {
    for (const name of ['.#pi', '.#with-another-module']) {
      const run = await build(name, flake())
      assert.equal(run.status, 0, run.stderr)
      assert.match(run.stderr, /warning: the configuration of \.#\S+ has no netimage module/)
      assert.match(run.stderr, /modules = \[ inputs\.netimage\.nixosModules\.default/)
    }
  })

  test('whose module has a wrong value: the error names it', async () => {
    const run = await build('.#with-typing-error', flake())
    const { message } = assertFailed(run, 'bad-option', { field: 'silence', actual: 'no-rule' })
    assert.match(message, /\.#with-typing-error/)
  })

  test('that does not build: the message of Nix, and nix-failed', async () => {
    for (const [name, said] of [
      ['.#broken', /what the builder said/],
      ['.#absent', /does not provide attribute|absent/],
    ] as const) {
      const run = await build(name, flake())
      assert.equal(run.status, 1)
      assert.ok(assertFailed(run, 'nix-failed').message.includes(name))
      assert.match(run.stderr, said)
    }
  })

  test('without Nix: program-missing', async () => {
    const run = await build('.#pi', flake(), { PATH: '/nowhere' })
    assert.equal(run.status, 3)
    assertFailed(run, 'program-missing', { expected: 'nix' })
  })

  test('without its name: the error tells how to name it', async () => {
    const run = await build('.', flake())
    assert.match(assertFailed(run, 'not-a-system').hint ?? '', /\.#host/)
  })

  test('Ctrl-C ends its build', async () => {
    const { child, ended } = startNetimage(command('.#slow'), { cwd: flake(), env: environment() })
    let said = ''
    child.stderr?.on('data', (text) => (said += String(text)))
    await waitUntil('Nix builds', () => /^building .*nixos-system-flake/m.test(said))
    assert.ok(child.pid !== undefined)
    process.kill(child.pid, 'SIGINT')
    const run = await waitFor('netimage ends', ended).finally(() => child.kill('SIGKILL'))
    assert.equal(run.status, 130, run.stderr)
    assert.equal(failureOf(run).code, 'interrupted')
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
