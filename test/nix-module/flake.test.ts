// The flake, as real Nix reads it, with a fixture in the place of nixpkgs.

import assert from 'node:assert/strict'
import { cpSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, suite, test } from 'node:test'
import * as v from 'valibot'
import { repository } from '../support/netimage.ts'
import type { NixWorld } from '../support/real-nix.ts'
import { temporaryDirectory } from '../support/temporary.ts'
import { createFixtureWorld, fixture, nodeDirectory } from './support.ts'

const nixpkgsFlake = `{
  outputs = { self }: {
    lib = import ./lib.nix { release = "26.05"; };
    legacyPackages = self.lib.genAttrs [ "x86_64-linux" "aarch64-linux" "x86_64-darwin" "aarch64-darwin" ] (
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
    for (const name of ['flake.nix', 'default.nix', 'nix', 'src', 'package.json', 'LICENSE']) {
      cpSync(join(repository, name), join(own, name), { recursive: true })
    }
    cpSync(fixture, nixpkgs, { recursive: true })
    writeFileSync(join(nixpkgs, 'flake.nix'), nixpkgsFlake)
  })

  test('shows what it has, for every platform', async () => {
    const shown: unknown = JSON.parse(await nix('flake', 'show', '--json', `path:${own}`))
    const schema = v.object({
      apps: v.record(v.string(), v.unknown()),
      nixosModules: v.object({ default: v.unknown(), netimage: v.unknown() }),
      overlays: v.object({ default: v.unknown() }),
      packages: v.record(v.string(), v.object({ default: v.unknown(), netimage: v.unknown() })),
      templates: v.object({ default: v.unknown() }),
    })
    const { packages } = v.parse(schema, shown)
    assert.deepEqual(Object.keys(packages).toSorted(), [
      ...['aarch64-darwin', 'aarch64-linux', 'x86_64-darwin', 'x86_64-linux'],
    ])
  })

  test('its package is built without a network, and runs', async () => {
    await nix('build', '--no-link', `path:${own}#netimage`)
    const program = await nix('eval', '--raw', `path:${own}#apps.x86_64-linux.default.program`)
    assert.match(program, /^\/nix\/store\/[a-z0-9]{32}-netimage-[\d.]+\/bin\/netimage$/)
  })

  test('without flakes there are the package and the module', async () => {
    const expression = `(import ${own} { pkgs = import ${fixture}/pkgs.nix {
      lib = import ${fixture}/lib.nix { release = "24.05"; };
      system = "x86_64-linux"; node = "${nodeDirectory}"; nodeVersion = "24.21.0"; }; }).module`
    const module = await world.nix([
      'eval',
      '--impure',
      '--raw',
      '--expr',
      `toString ${expression}`,
    ])
    assert.match(module, /nix\/module\.nix$/)
  })

  test('the template is a flake that names what this one has', async () => {
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
})
