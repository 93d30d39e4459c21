// The first boot: runs the module's script on the root tree of an image, with real Nix.

import assert from 'node:assert/strict'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { before, suite, test } from 'node:test'
import { check } from '../../src/index.ts'
import { readImage } from '../../src/image/manifest.ts'
import { runProgram, type NixWorld } from '../support/real-nix.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { createFixtureWorld, systemExpression, type SystemRequest } from './support.ts'

const configuration = '{ netImage.boot = [ ]; }'
const done = 'nix/var/nix/netimage-registered'
const registration = 'nix-path-registration'

suite('the first boot', () => {
  const directory = temporaryDirectory()
  const freshRoot = freshNames(directory)
  let world: NixWorld
  let image: string
  let script: string
  let closure: string[]
  let toplevel: string

  const build = async (attribute: string, request: SystemRequest = {}) => {
    const expression = `(${systemExpression({ configuration, ...request })}).config.${attribute}`
    const [path = ''] = await world.build({ expression })
    return world.realPath(path)
  }

  before(async () => {
    world = await createFixtureWorld(join(directory, 'world'))
    image = await build('system.build.netImage')
    const unit = 'systemd.services.register-net-image.serviceConfig.ExecStart'
    script = readFileSync(await build(unit), 'utf8')
    const { manifest } = await readImage(image)
    toplevel = manifest.system.toplevel
    closure = manifest.closure.map(({ path }) => path)
  })

  /** A machine with its own root, just before the script runs. */
  async function makeMachine(): Promise<string> {
    const root = freshRoot()
    const { options } = await readImage(image)
    await runProgram('cp', ['-a', join(image, 'net-image', options.rootDirectoryName), root])
    for (const name of ['', 'nix']) chmodSync(join(root, name), 0o755)
    mkdirSync(join(root, 'etc'))
    writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0::/root:/bin/sh\n')
    mkdirSync(join(root, 'run'))
    symlinkSync(toplevel, join(root, 'run/current-system'))
    return root
  }

  const boot = async (root: string, commands = script, prepare = ':') => {
    const file = join(root, 'script')
    writeFileSync(file, commands)
    // Not the first process of the PID namespace, because such a process cannot be killed.
    await inRoot(root, 'bash /script || exit', prepare)
  }

  async function assertRegistered(root: string): Promise<void> {
    const known = await inRoot(root, 'nix-store --query --requisites "$(readlink $1)"')
    assert.deepEqual(known.trim().split('\n').toSorted(), closure.toSorted())
    await inRoot(root, 'nix-store --verify --check-contents')
    const profile = await inRoot(root, 'readlink -f /nix/var/nix/profiles/system')
    assert.equal(profile.trim(), toplevel)
    assert.ok(existsSync(join(root, 'etc/NIXOS')))
    assert.ok(existsSync(join(root, registration)), 'other machines may need it')
    assert.ok(existsSync(join(root, done)))
  }

  test('registers the store with Nix, and makes the system’s profile', async () => {
    const root = await makeMachine()
    await boot(root)
    await assertRegistered(root)
  })

  test('changes nothing at the second boot', async () => {
    const root = await makeMachine()
    await boot(root)
    rmSync(join(root, 'etc/NIXOS'))
    await boot(root)
    assert.ok(!existsSync(join(root, 'etc/NIXOS')))
    assert.deepEqual(readlinkSync(join(root, 'nix/var/nix/profiles/system')), 'system-1-link')
  })

  const steps = ['nix-store', 'touch', 'nix-env', 'cp', 'sync', 'mv']
  const losses = { 'the power fails': '/kill', 'it fails': '/bin/false' }
  for (const step of steps) {
    for (const [what, instead] of Object.entries(losses)) {
      test(`is repeated at the next boot if ${what} at ${step}`, async () => {
        const root = await makeMachine()
        writeFileSync(join(root, 'kill'), '#!/bin/bash\nkill -9 $PPID\n', { mode: 0o755 })
        const cut = script.replace(`/usr/bin/${step} `, `${instead} `)
        assert.notEqual(cut, script)
        await assert.rejects(boot(root, cut))
        assert.ok(!existsSync(join(root, done)))
        await boot(root)
        await assertRegistered(root)
      })
    }
  }

  test('registers another registration as well', async () => {
    const root = await makeMachine()
    await boot(root)
    writeFileSync(join(root, done), 'of the image before')
    rmSync(join(root, 'etc/NIXOS'))
    await boot(root)
    await assertRegistered(root)
  })

  test('skips the registration if Nix’s database is read-only', async () => {
    const root = await makeMachine()
    mkdirSync(join(root, 'nix/var/nix'), { recursive: true })
    const readOnly = 'mount --rbind $root $root; mount -o remount,bind,ro $root'
    await boot(root, script, readOnly)
    assert.ok(!existsSync(join(root, done)))
    assert.ok(!existsSync(join(root, 'etc/NIXOS')))
  })

  test('does not stop scripted stage 2 if the registration fails', async () => {
    const request = { release: '24.05' }
    const expression = `(${systemExpression({ configuration, ...request })}).config.boot.postBootCommands`
    const commands = await world.nix(['eval', '--impure', '--raw', '--expr', expression])
    const [path = ''] = /\/nix\/store\/\S+-register-net-image/.exec(commands) ?? []
    assert.match(
      commands,
      new RegExp(`if \\[ -f /${registration} \\]; then\n  ${path} \\|\\| echo`),
    )

    const root = await makeMachine()
    const next = `set -e\n${commands.replace(path, '/bin/false')}\necho on > /etc/next`
    await boot(root, next)
    assert.equal(readFileSync(join(root, 'etc/next'), 'utf8'), 'on\n')
  })

  test('is recognized by netimage check, in a unit and in a script', async () => {
    for (const release of ['24.05', '26.05']) {
      assert.ok(!(await rulesFor({ release })).includes('no-registration'), release)
    }
    const without = '{ netImage.boot = [ ]; nix.enable = false; }'
    assert.ok((await rulesFor({ configuration: without })).includes('no-registration'))
  })

  async function rulesFor(request: SystemRequest): Promise<string[]> {
    const { findings } = await check({ subject: await build('system.build.netImage', request) })
    return findings.map(({ rule }) => rule)
  }

  /**
   * Runs a shell in a machine's root, with this machine's programs.
   *
   * @param prepare commands that run first, outside of the root
   */
  async function inRoot(root: string, commands: string, prepare = ':'): Promise<string> {
    const outer = `
      root=$1
      for name in usr bin lib lib64 proc dev; do
        mkdir -p $root/$name
        mount --rbind /$name $root/$name
      done
      ${prepare}
      exec chroot $root /bin/bash -euc "$2" bash /run/current-system
    `
    const environment = {
      PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
      HOME: '/root',
      NIX_CONFIG: 'build-users-group =\nsubstituters =\nfsync-metadata = false',
    }
    const namespace = ['--map-root-user', '--mount', '--pid', '--fork', 'sh', '-euc']
    return await runProgram('unshare', [...namespace, outer, 'sh', root, commands], { environment })
  }
})
