// Real Nix builds the image as a derivation, in its sandbox and without a network.

import assert from 'node:assert/strict'
import { lstatSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, suite, test } from 'node:test'
import { verifyImage } from '../../src/index.ts'
import { readImage } from '../../src/image/manifest.ts'
import type { NixWorld } from '../support/real-nix.ts'
import { temporaryDirectory } from '../support/temporary.ts'
import { createFixtureWorld, systemExpression } from './support.ts'

const configuration = `{
  netImage = {
    nfsRoot = "10.0.0.5:/srv/pi,v3";
    boot = [ "extlinux" ];
    populateRootCommands = "mkdir files/srv; echo hello > files/srv/hello; chmod 600 files/srv/hello";
    populateFirmwareCommands = "test -d $rootfs/nix/store; echo more > $NIX_BUILD_TOP/more.txt";
  };
}`

suite('the image as a derivation', () => {
  const directory = temporaryDirectory()
  let world: NixWorld
  const build = async (attribute: string, request = {}) => {
    const expression = `(${systemExpression({ configuration, ...request })}).config.system.build.${attribute}`
    const [path = ''] = await world.build({ expression })
    return path
  }

  before(async () => {
    world = await createFixtureWorld(join(directory, 'world'))
  })

  test('has the module’s layout, is complete, and holds the paths of closureInfo', async () => {
    const path = await build('netImage')
    const image = world.realPath(path)
    assert.deepEqual(readdirSync(image).toSorted(), ['net-image', 'nix-support'])
    const name = 'nixos-net-image-26.05.20261122.fixture-x86_64-linux'
    assert.deepEqual(readdirSync(join(image, 'net-image')).toSorted(), ['boot', name])
    assert.equal(readFileSync(join(image, 'nix-support/system'), 'utf8'), 'x86_64-linux\n')

    const { findings } = await verifyImage({ image })
    assert.deepEqual(findings, [])
    const { closure, manifest, options } = await readImage(image)
    assert.deepEqual(
      closure.map((info) => info.path),
      await world.closure([manifest.system.toplevel]),
    )
    assert.equal(options.nfsRoot, '10.0.0.5:/srv/pi,v3')
    assert.ok(readdirSync(join(image, 'net-image/boot')).includes('more.txt'))
    const root = join(image, 'net-image', name)
    assert.equal(readFileSync(join(root, 'srv/hello'), 'utf8'), 'hello\n')
    // Each file is written once, and the pool is gone.
    assert.equal(lstatSync(join(root, manifest.system.toplevel, 'init')).nlink, 1)
  })

  test('for another processor is built by programs for this processor', async () => {
    const request = { system: 'aarch64-linux', buildSystem: 'x86_64-linux' }
    const image = world.realPath(await build('netImage', request))
    assert.equal(readFileSync(join(image, 'nix-support/system'), 'utf8'), 'x86_64-linux\n')
    const { manifest } = await readImage(image)
    assert.equal(manifest.system.platform, 'aarch64-linux')
    assert.match(manifest.options.rootDirectoryName, /-aarch64-linux$/)
  })

  test('has the same bytes if it is built again', async () => {
    const path = await build('netImage')
    const [derivation = ''] = (await world.nixStore(['--query', '--deriver', path])).split('\n')
    await world.nixStore(['--realise', '--check', derivation])
  })

  test('as an archive keeps modes that the store does not keep', async () => {
    const image = world.realPath(await build('netImageTarball'))
    const { findings } = await verifyImage({ image })
    assert.deepEqual(findings, [])
    const { manifest } = await readImage(image)
    assert.equal(manifest.root.format, 'tar')
    const hello = manifest.root.files.find((file) => file.path === 'srv/hello')
    assert.ok(hello?.type === 'file')
    assert.equal(hello.mode, '0600')
  })

  test('names another package in the error if Node is too old', async () => {
    await assert.rejects(build('netImage', { nodeVersion: '22.22.0' }), (error: Error) => {
      assert.match(error.message, /needs Node\.js 24\.15 or later, and this nixpkgs has 22\.22\.0/)
      assert.match(error.message, /netImage\.package = inputs\.netimage/)
      return true
    })
  })
})
