// Systems by the name of a host: a flake that real Nix builds, and the options of its module.

import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import * as v from 'valibot'
import { verifyImage } from '../../src/index.ts'
import {
  assertFailed,
  failureOf,
  netimage,
  parseObject,
  startNetimage,
} from '../support/netimage.ts'
import {
  createNixWorld,
  findStaticBusybox,
  runProgram,
  type NixWorld,
} from '../support/real-nix.ts'
import { temporaryDirectory } from '../support/temporary.ts'
import { waitFor, waitUntil } from '../support/waiting.ts'
import { makeWorkspace, type Workspace } from '../support/workspace.ts'

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
