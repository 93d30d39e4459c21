// Real Nix evaluates the flake, with a fixture in place of nixpkgs.

import assert from 'node:assert/strict'
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { before, suite, test } from 'node:test'
import * as v from 'valibot'
import { repository } from '../support/netimage.ts'
import type { NixWorld } from '../support/real-nix.ts'
import { temporaryDirectory } from '../support/temporary.ts'
import { blocksOf } from '../packaging/support/start-page.ts'
import { createFixtureWorld, fixture, nodeDirectory } from './support.ts'

const nixpkgsFlake = `{
  outputs = { self }: {
    lib = import ./lib.nix { release = "26.05"; } // {
      nixosSystem = { system, modules }: import ./system.nix {
        inherit system modules;
        node = "${nodeDirectory}";
        nodeVersion = "${process.versions.node}";
      };
    };
    legacyPackages = self.lib.genAttrs [ "x86_64-linux" "aarch64-linux" "aarch64-darwin" ] (
      system:
      import ./pkgs.nix {
        inherit (self) lib;
        inherit system;
        node = "${nodeDirectory}";
        nodeVersion = "${process.versions.node}";
      }
    );
  };
}`

suite('the flake', () => {
  const directory = temporaryDirectory()
  const own = join(directory, 'netimage')
  const nixpkgs = join(directory, 'nixpkgs')
  let world: NixWorld
  const nix = async (...args: string[]) =>
    await world.nix([
      ...args,
      '--override-input',
      'nixpkgs',
      `path:${nixpkgs}`,
      '--no-write-lock-file',
    ])

  before(async () => {
    world = await createFixtureWorld(join(directory, 'world'))
    mkdirSync(own)
    const program = ['src', 'package.json', 'LICENSE', 'packaging/files/netimage.service']
    for (const name of ['flake.nix', 'default.nix', 'nix', ...program]) {
      cpSync(join(repository, name), join(own, name), { recursive: true })
    }
    cpSync(fixture, nixpkgs, { recursive: true })
    writeFileSync(join(nixpkgs, 'flake.nix'), nixpkgsFlake)
  })

  test('has its outputs for every platform', async () => {
    const shown: unknown = JSON.parse(await nix('flake', 'show', '--json', `path:${own}`))
    const schema = v.object({
      apps: v.record(v.string(), v.unknown()),
      nixosModules: v.object({ default: v.unknown(), netimage: v.unknown(), server: v.unknown() }),
      overlays: v.object({ default: v.unknown() }),
      packages: v.record(v.string(), v.object({ default: v.unknown(), netimage: v.unknown() })),
      templates: v.object({ default: v.unknown() }),
    })
    const { packages } = v.parse(schema, shown)
    assert.deepEqual(Object.keys(packages).toSorted(), [
      ...['aarch64-darwin', 'aarch64-linux', 'x86_64-linux'],
    ])
  })

  test('passes `nix flake check`, and its tests evaluate', async () => {
    // Nix 2.8 rejects templates of a flake if the store is not in /nix/store.
    const checked = join(directory, 'checked')
    cpSync(own, checked, { recursive: true })
    const text = readFileSync(join(own, 'flake.nix'), 'utf8')
    writeFileSync(join(checked, 'flake.nix'), text.replace('templates.default', 'lib.template'))
    await nix('flake', 'check', '--no-build', `path:${checked}`)
    // Since 2.24, Nix warns of apps without meta.
    const described = 'builtins.mapAttrs (_: app: app.meta.description != "")'
    const apps = await nix('eval', '--json', `path:${own}#apps.x86_64-linux`, '--apply', described)
    assert.deepEqual(JSON.parse(apps), { default: true, netimage: true })
    const name = await nix('eval', '--raw', `path:${own}#checks.x86_64-linux.boot.name`)
    assert.equal(name, 'vm-test-run-netimage-boot')
    const server = await nix('eval', '--raw', `path:${own}#checks.x86_64-linux.server.name`)
    assert.equal(server, 'vm-test-run-netimage-server')
  })

  test('has a package that builds without a network and runs', async () => {
    await nix('build', '--no-link', `path:${own}#netimage`)
    const program = await nix('eval', '--raw', `path:${own}#apps.x86_64-linux.default.program`)
    assert.match(program, /^\/nix\/store\/[a-z0-9]{32}-netimage-[\d.]+\/bin\/netimage$/)
    const unit = join(dirname(program), '../lib/systemd/system/netimage.service')
    const text = readFileSync(world.realPath(unit), 'utf8')
    assert.ok(text.includes(`\nExecStart=${program} serve --state /var/lib/netimage `), text)
    assert.doesNotMatch(text, /\/usr|\/etc/)
  })

  test('has the same package as default.nix', async () => {
    const expression = `(import ${own} { pkgs = import ${fixture}/pkgs.nix {
      lib = import ${fixture}/lib.nix { release = "24.05"; };
      system = "x86_64-linux"; node = "${nodeDirectory}"; nodeVersion = "24.21.0"; }; }).drvPath`
    const derivation = await world.nix(['eval', '--impure', '--raw', '--expr', expression])
    assert.match(derivation, /-netimage-[\d.]+\.drv$/)
  })

  test('has a template that uses outputs which exist', async () => {
    const file = join(repository, 'nix/template/flake.nix')
    const output = await world.nix([
      'eval',
      '--impure',
      '--json',
      '--expr',
      `builtins.attrNames (import ${file}).inputs`,
    ])
    assert.deepEqual(JSON.parse(output), ['netimage', 'nixpkgs'])
  })

  suite('docs/start.md', () => {
    const [ofMachine = '', noMore] = blocksOf('The system of the machine', 'nix')
    const [ofServer = '', noMoreOfServer] = blocksOf('NixOS', 'nix')

    /** Evaluates an attribute of a flake that a person writes by the page. */
    async function evaluate(name: string, text: string, attribute: string): Promise<string> {
      const flake = join(directory, name)
      mkdirSync(flake, { recursive: true })
      writeFileSync(join(flake, 'flake.nix'), text)
      // A person has the rest of the server's configuration there.
      writeFileSync(join(flake, 'configuration.nix'), '{ system.stateVersion = "26.05"; }')
      const from = ['--override-input', 'netimage', `path:${own}`]
      const within = ['--override-input', 'netimage/nixpkgs', `path:${nixpkgs}`]
      const how = ['--raw', '--apply', 'toString', `path:${flake}#${attribute}`]
      return await nix('eval', ...how, ...from, ...within)
    }

    test('has a machine with an image', async () => {
      assert.equal(noMore, undefined)
      const image = 'nixosConfigurations.pc.config.system.build.netImage.drvPath'
      assert.match(await evaluate('machine', ofMachine, image), /\.drv$/)
    })

    test('has a server on NixOS that serves the image of its machine', async () => {
      assert.equal(noMoreOfServer, undefined)
      const service = 'nixosConfigurations.server.config.systemd.services.netimage'
      const command = await evaluate('server', ofServer, `${service}.serviceConfig.ExecStart`)
      assert.match(command, /"\/nix\/store\/[^"]+\/net-image" .*"--allow" "dc:a6:32:01:02:03"/)
    })
  })
})
