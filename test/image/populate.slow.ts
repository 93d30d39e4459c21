// The commands that people write for their images: their environment, the files that they make, and
// what they must not do.

import assert from 'node:assert/strict'
import { lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { existsSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import {
  buildNetImage,
  NetimageError,
  verifyImage,
  type ErrorCode,
  type NetImageOptions,
} from '../../src/index.ts'
import { runCommands } from '../../src/image/populate.ts'
import { assertError, netimageError, type Expected } from '../support/errors.ts'
import { asOrdinaryUser, machineWithNix, ordinaryUser } from '../support/namespace.ts'
import { netimage, repository, startNetimage } from '../support/netimage.ts'
import { assertGone, end } from '../support/processes.ts'
import { runProgram } from '../support/real-nix.ts'
import { buildSmallSystem, type TestSystem } from '../support/systems.ts'
import { assertSameLines, describeTree } from '../support/trees.ts'
import { waitFor, waitUntil } from '../support/waiting.ts'
import { makeWorkspace, type Workspace } from '../support/workspace.ts'

suite('commands', { concurrency: 3 }, () => {
  let workspace: Workspace
  let system: TestSystem
  /** An image without files of commands. */
  let reference: string
  let images = 0
  const rootName = 'nixos-net-image-25.11.20261122.test-x86_64-linux'
  const rootOf = (image: string) => join(image, 'net-image', rootName)
  const bootOf = (image: string) => join(image, 'net-image/boot')

  before(async () => {
    workspace = makeWorkspace('populate')
    system = await buildSmallSystem(workspace.path('world'))
    // From now on, everything is in the pool.
    reference = await build({})
  })
  after(() => workspace.remove())

  const content = () => system.paths.find((path) => path.endsWith('-content')) ?? ''

  async function build(
    options: NetImageOptions,
    request: Partial<Parameters<typeof buildNetImage>[0]> = {},
  ): Promise<string> {
    const output = workspace.path('images', `${images++}`, 'image')
    const { image } = await buildNetImage({
      system: system.toplevel,
      from: [`local?root=${system.world.storeRoot}`],
      checkSignatures: false,
      pool: workspace.pool,
      output,
      options,
      // The boot tree has only files that the commands make.
      boot: [],
      ...request,
    })
    return image
  }

  const root = (populateRootCommands: string) => build({ populateRootCommands })
  const firmware = (populateFirmwareCommands: string) => build({ populateFirmwareCommands })

  async function assertFails(
    options: NetImageOptions,
    expected: Expected,
    code: ErrorCode = 'command-failed',
  ): Promise<NetimageError> {
    const number = images
    const failure = await build(options).catch((error: unknown) => error)
    assertError(failure, code, expected)
    assert.deepEqual(names(workspace.path('images', `${number}`)), [])
    return failure
  }

  let directories = 0

  /** Runs commands in the place of an image, without a build. */
  async function runAlone(commands: string): Promise<unknown> {
    const [directory, emptyDirectory] = ['run', 'root'].map((name) => {
      const path = workspace.path(`${name}-${directories++}`)
      mkdirSync(path)
      return path
    })
    assert.ok(directory !== undefined && emptyDirectory !== undefined)
    return await runCommands('populateFirmwareCommands', commands, {
      ...{ out: reference, rootfs: rootOf(reference), bootfs: bootOf(reference) },
      ...{ store: join(rootOf(reference), 'nix/store'), closure: [] },
      ...{ directory, emptyDirectory, signal: new AbortController().signal },
    })
  }

  const names = (directory: string) => (existsSync(directory) ? readdirSync(directory).sort() : [])
  const text = (...path: string[]) => readFileSync(join(...path), 'utf8')

  suite('are given', { concurrency: 3 }, () => {
    const show =
      'printf "%s\\n" "$out" "$rootfs" "$bootfs" "$store" "$PWD" "$SOURCE_DATE_EPOCH" "$-" "$NIX_BUILD_TOP"'

    test('the image, its trees and a scratch directory', async () => {
      const image = await build({
        populateRootCommands: `ls -A . files > files/list; ${show} > files/env`,
        populateFirmwareCommands: `ls -A . > list; ${show} > env`,
      })
      // `files` exists, and everything else is empty.
      assert.equal(text(rootOf(image), 'list'), '.:\nfiles\n\nfiles:\nlist\n')
      assert.equal(text(bootOf(image), 'list'), 'list\n')
      for (const tree of [rootOf(image), bootOf(image)]) {
        const [out = '', rootfs, bootfs, store, pwd = '', epoch, shell, top] = text(
          tree,
          'env',
        ).split('\n')
        assert.ok(out.startsWith(`${workspace.directory}/images/`), out)
        assert.deepEqual([rootfs, bootfs], [rootOf(out), bootOf(out)])
        assert.equal(store, join(rootOf(out), 'nix/store'))
        assert.ok(!pwd.startsWith(out), pwd)
        assert.equal(top, pwd)
        assert.equal(epoch, '315532800')
        assert.match(shell ?? '', /e.*u|u.*e/)
      }
    })

    /** The closure, over the store that this machine may have; without hidden names. */
    const seenInStore = () => {
      const own = existsSync('/nix/store') ? readdirSync('/nix/store') : []
      const names = [...system.paths.map((path) => path.slice(11)), ...own]
      return [...new Set(names.filter((name) => !name.startsWith('.')))].sort()
    }

    test('the closure at $store and, on any machine, at /nix/store', async () => {
      const image = await root(`
        ls /nix/store > files/closure
        cat ${content()}/share/text > files/text
        cat "$store/${content().slice(11)}/share/more/text" > files/more
        ${system.toplevel}/bin/tool files/ran
      `)
      assert.deepEqual(text(rootOf(image), 'closure').trim().split('\n').sort(), seenInStore())
      assert.equal(text(rootOf(image), 'text'), 'small\n')
      assert.equal(text(rootOf(image), 'more'), 'smaller\n')
      assert.equal(text(rootOf(image), 'ran'), 'ran\n')
    })

    test('the closure over the store of a machine that has Nix', async () => {
      const image = workspace.path('images', 'with-nix')
      const through = machineWithNix(system.world.storeRoot, workspace.path('machine'))
      const content = await system.world.addToStore(writeContent('extra'), { name: 'extra' })
      // One path is on the machine and not in the closure; then one is in the closure alone.
      const commands = `cat ${content}/file > files/extra; ${system.toplevel}/bin/tool files/ran`
      const args = ['build', system.toplevel, '-o', image, '--pool', workspace.path('pool-nix')]
      const run = await netimage([...args, '--populate-root-commands', commands], { through })
      assert.equal(run.status, 0, run.stderr)
      assert.equal(text(rootOf(image), 'extra'), 'extra\n')
      assert.equal(text(rootOf(image), 'ran'), 'ran\n')

      const smaller = workspace.path('smaller')
      await runProgram('mkdir', ['-p', `${smaller}/nix/var`])
      await runProgram('cp', ['-a', `${system.world.storeRoot}/nix/store`, `${smaller}/nix/`])
      await runProgram('rm', ['-rf', `${smaller}${system.toplevel}`])
      const over = workspace.path('images', 'over-nix')
      const second = await netimage(
        [
          ...['build', system.toplevel, '-o', over, '--pool', workspace.path('pool-nix')],
          ...['--from', system.world.storeRoot, '--no-check-sigs'],
          ...['--populate-root-commands', commands],
        ],
        { through: machineWithNix(smaller, workspace.path('machine-2')) },
      )
      assert.equal(second.status, 0, second.stderr)
      assert.equal(text(rootOf(over), 'extra'), 'extra\n')
      assert.equal(text(rootOf(over), 'ran'), 'ran\n')
    })

    test('the closure at /nix/store even if they are not root', async () => {
      const home = workspace.path('home')
      mkdirSync(home)
      if (process.geteuid?.() === 0) {
        await runProgram('chown', [`${ordinaryUser.uid}:${ordinaryUser.gid}`, home])
        await runProgram('chmod', ['755', workspace.directory])
      }
      const place = workspace.path('repository')
      const user = asOrdinaryUser(place)
      const moved = user.length > 0 ? place : repository
      const script = `shift 2; exec "${process.execPath.replace(repository, moved)}" "${moved}/src/cli.ts" "$@"`
      const image = join(home, 'image')
      const commands = `${system.toplevel}/bin/tool files/ran; ls /nix/store | wc -l > files/count`
      const run = await netimage(
        [
          ...['build', system.toplevel, '-o', image, '--pool', join(home, 'pool')],
          ...['--from', system.world.storeRoot, '--no-check-sigs'],
          ...['--populate-root-commands', commands],
        ],
        { through: [...user, 'env', '-C', home, 'sh', '-c', script, 'sh'], cwd: home },
      )
      assert.equal(run.status, 0, run.stderr)
      assert.equal(text(rootOf(image), 'ran'), 'ran\n')
      assert.equal(text(rootOf(image), 'count').trim(), `${seenInStore().length}`)
    })

    test('no way to write to the closure', async () => {
      for (const directory of ['$store', '/nix/store']) {
        const file = `${directory}/${content().slice(11)}/share/text`
        await assertFails(
          { populateRootCommands: `chmod u+w ${file} || true; echo changed >> ${file}` },
          /Read-only file system|Permission denied/,
        )
      }
    })

    test('no way to write to the closure if the machine has it, too', async () => {
      const through = machineWithNix(system.world.storeRoot, workspace.path('machine-3'))
      const image = workspace.path('images', 'written')
      const file = `$store/${content().slice(11)}/share/text`
      const commands = `chmod u+w ${file}; echo changed >> ${file}`
      const args = ['build', system.toplevel, '-o', image, '--pool', workspace.path('pool-nix')]
      const run = await netimage([...args, '--populate-root-commands', commands], { through })
      assert.equal(run.status, 1)
      assert.match(run.stderr, /Read-only file system/)
      assert.deepEqual(
        names(workspace.path('images')).filter((name) => name === 'written'),
        [],
      )
    })

    test('no way to write to the closure by a path with a link in it', async () => {
      const link = workspace.path('linked')
      mkdirSync(workspace.path('behind'))
      symlinkSync('behind', link)
      const file = `$store/${content().slice(11)}/share/text`
      const failure = await build(
        { populateRootCommands: `chmod u+w ${file} || true; echo changed >> ${file}` },
        { output: join(link, 'image') },
      ).catch((error: unknown) => error)
      assert.ok(failure instanceof NetimageError, String(failure))
      assert.match(failure.message, /Read-only file system/)
    })

    suite('the closure itself, if there can be no mount namespace', { concurrency: 3 }, () => {
      // Most containers have no mount namespaces.
      const through = ['setpriv', '--bounding-set=-sys_admin', '--inh-caps=-sys_admin']
      const file = () => `$store/${content().slice(11)}/share/text`

      for (const how of [[], ['--link', 'hardlink'], ['--format', 'tar']]) {
        test(`and a change is noticed (${how.join(' ') || 'as it is by default'})`, async () => {
          const name = `unguarded${how.join('')}`
          const pool = workspace.path(`pool-${name}`)
          const image = workspace.path('images', name)
          const store = ['--from', `local?root=${system.world.storeRoot}`, '--no-check-sigs']
          const common = ['build', system.toplevel, ...store, '-o', image, '--pool', pool, ...how]
          const commands = `chmod u+w ${file()}; echo changed >> ${file()}`
          const run = await netimage([...common, '--populate-root-commands', commands], { through })
          assert.equal(run.status, 1, run.stderr)
          assert.match(run.stderr, /\/nix\/store\/\S+-content .*\[command-failed\]$/m)
          assert.equal(existsSync(image), false)
          // If the pool shared the changed file, its path is not used again. A copy is not shared.
          if (how.length === 0) return
          const again = await netimage([...common, '--populate-root-commands', 'echo > files/x'], {
            through,
          })
          assert.equal(again.status, 0, again.stderr)
          assert.deepEqual((await verifyImage({ image })).findings, [])
        })
      }
    })

    test('nothing on their input', async () => {
      const image = await root('wc -c > files/bytes')
      assert.equal(text(rootOf(image), 'bytes').trim(), '0')
    })
  })

  suite('make', { concurrency: 3 }, () => {
    test('files of the root tree only in ./files, and all files of the boot tree', async () => {
      const image = await build({
        populateRootCommands: 'echo no > aside; mkdir -p files/etc; echo yes > files/etc/hostname',
        populateFirmwareCommands: 'mkdir -p overlays; echo yes > config.txt; echo yes > overlays/x',
      })
      assert.deepEqual(names(rootOf(image)), ['etc', 'nix', 'nix-path-registration'])
      assert.deepEqual(names(join(rootOf(image), 'etc')), ['hostname'])
      assert.deepEqual(names(bootOf(image)), ['config.txt', 'overlays'])
      assert.deepEqual(names(join(image, '..')), ['image'])
      assert.deepEqual(names(image), ['net-image', 'nix-support'])
    })

    test('any files, and the same files in two builds', async () => {
      const commands = `
        cd files
        mkdir -p empty/below private with-bits
        echo setuid > setuid; chmod 4755 setuid
        echo secret > private/key; chmod 600 private/key; chmod 700 private
        chmod 1777 with-bits
        ln -s /nowhere/at/all dangling
        ln -s setuid link
        echo linked > hard; ln hard hard-too
        echo odd > "$(printf 'a\\nb')"; echo odd > "$(printf 'caf\\351')"; echo odd > 'back\\slash'
        echo lower > readme; echo upper > README
        touch -d 2001-01-01 setuid
        mkdir -p locked/inside; echo x > locked/inside/file; chmod 555 locked/inside locked
      `
      const options = {
        populateRootCommands: commands,
        populateFirmwareCommands: commands.replace('cd files', ''),
      }
      const image = await build(options)
      assert.deepEqual((await verifyImage({ image })).findings, [])
      assert.equal(lstatSync(join(rootOf(image), 'setuid')).mode & 0o7777, 0o4755)
      assert.equal(readlinkSync(join(rootOf(image), 'dangling')), '/nowhere/at/all')
      const again = await build(options)
      const lines = (image: string) => describeTree(join(image, 'net-image'), { times: false })
      assertSameLines(lines(again), lines(image))
      assert.deepEqual(
        describeTree(rootOf(image)).filter((line) => !line.includes(' mtime 1000 ')),
        [],
      )
      const manifest = (image: string) => text(image, 'nix-support/net-image.json')
      assert.equal(manifest(again), manifest(image))
      const other = await build({ ...options, populateRootCommands: `${commands}\necho more > x` })
      assert.notEqual(manifest(other), manifest(image))
    })

    test('files that they write to $rootfs and $bootfs', async () => {
      const image = await build({
        populateRootCommands:
          'mkdir "$rootfs/etc"; echo root > "$rootfs/etc/where"; echo boot > "$bootfs/where"',
      })
      assert.equal(text(rootOf(image), 'etc/where'), 'root\n')
      assert.equal(text(bootOf(image), 'where'), 'boot\n')
      assert.deepEqual((await verifyImage({ image })).findings, [])
    })

    test('processes that go on: the build does not wait for them', async () => {
      const image = await waitFor('the build', firmware('sleep 1000 & echo $! > pid'))
      await assertGone(Number(text(bootOf(image), 'pid')))
    })

    test('nothing if they are blank', async () => {
      const image = await build({ populateRootCommands: ' \n', populateFirmwareCommands: '' })
      assert.deepEqual(names(bootOf(image)), [])
    })

    /** The file is the end of its path; the tools themselves may refuse the last and the fourth. */
    const refused: Record<string, [commands: string, code: ErrorCode, file: string]> = {
      'a store path in ./files': [
        'mkdir -p files/nix/store/stray',
        'command-failed',
        'nix/store/stray',
      ],
      'a file in the place of the store': [
        'mkdir files/nix; echo x > files/nix/store',
        'command-failed',
        'nix/store',
      ],
      'a link in the place of the store': ['ln -s /etc files/nix', 'command-failed', 'nix'],
      'a store path by its name': ['mkdir "$rootfs/nix/store/stray"', 'command-failed', ''],
      'a registration': [
        'echo > files/nix-path-registration',
        'command-failed',
        'nix-path-registration',
      ],
      'another registration by its name': [
        'echo changed > "$rootfs/nix-path-registration"',
        'command-failed',
        'nix-path-registration',
      ],
      'a link in the place of the registration': [
        'ln -sf /etc/passwd "$rootfs/nix-path-registration"',
        'command-failed',
        'nix-path-registration',
      ],
      'what is in none of its trees': [
        'echo > $out/net-image/more',
        'command-failed',
        'net-image/more',
      ],
      'a pipe': ['mkfifo files/pipe', 'file-system', '/pipe'],
      'a socket': [
        `node -e 'require("net").createServer().listen("files/socket", () => process.exit())'; [ -S files/socket ] || mkfifo files/socket`,
        'file-system',
        '/socket',
      ],
      'the store away': [
        'rm -rf "$rootfs/nix/store" || mv "$rootfs/nix/store" "$rootfs/nix/gone"',
        'command-failed',
        '',
      ],
    }
    for (const [what, [populateRootCommands, code, file]] of Object.entries(refused)) {
      test(`${what}: an error`, async () => {
        const failure = await build({ populateRootCommands }).catch((error: unknown) => error)
        assertError(failure, code)
        assert.ok((failure.details.file ?? '').endsWith(file), failure.message)
      })
    }
  })

  suite('that fail', { concurrency: 3 }, () => {
    test('have their output in the error', async () => {
      const { details, exitStatus } = await assertFails(
        { populateRootCommands: 'echo on stdout; echo on stderr >&2; exit 7; echo not this' },
        /:\non stdout\non stderr$/,
      )
      assert.deepEqual(details, { field: 'populateRootCommands', actual: 7 })
      assert.equal(exitStatus, 1)
    })
    test('have only the end of a long output in the error', async () => {
      const failure = await runAlone('seq 1 1000000; echo the end; exit 1').catch(
        (error: unknown) => error,
      )
      assertError(failure, 'command-failed', { actual: 1 })
      assert.ok(failure.message.endsWith('999999\n1000000\nthe end'))
      assert.ok(failure.message.length < 100_000)
    })

    /** The status, or the message of bash. */
    const failures: Record<string, [commands: string, expected: Expected]> = {
      'without a word': ['exit 3', { actual: 3 }],
      'at the first that fails': ['false; echo on', { actual: 1 }],
      'by a variable that is not set': ['echo $missing', /missing: unbound variable/],
      'in a pipe': ['false | true', { actual: 1 }],
      'by a signal': ['kill -9 $$', { actual: 'SIGKILL' }],
      'by their syntax': ['if', /syntax error/],
      'by a program that is not there': ['no-such-program', /no-such-program: command not found/],
    }
    for (const [what, [commands, expected]] of Object.entries(failures)) {
      test(what, async () => {
        await assert.rejects(runAlone(commands), netimageError('command-failed', expected))
      })
    }
  })

  suite('that are interrupted', { concurrency: 2 }, () => {
    for (const [what, before] of [
      ['', ''],
      ['and do not listen', `trap '' TERM INT\n`],
    ] as const) {
      test(`end with all that they started ${what}`, async () => {
        const name = `interrupted${what.length}`
        const image = workspace.path('images', name, 'image')
        const pids = workspace.path(`${name}-pids`)
        const commands = commandsThatStay(before, pids)
        const { child, ended } = startNetimage([
          ...['build', system.toplevel, '-o', image, '--pool', workspace.pool],
          ...['--from', system.world.storeRoot, '--no-check-sigs'],
          ...['--populate-root-commands', commands],
        ])
        try {
          await waitUntil('the commands run', () => existsSync(pids))
          assert.ok(child.pid !== undefined)
          process.kill(child.pid, 'SIGINT')
          const run = await waitFor('the build ends', ended)
          assert.equal(run.status, 130, run.stderr)
          assert.match(run.stderr, /^error: interrupted \[interrupted\]$/m)
          assert.deepEqual(names(workspace.path('images', name)), [])
          for (const pid of text(pids).trim().split(' ')) await assertGone(Number(pid))
        } finally {
          if (child.pid !== undefined && child.exitCode === null)
            process.kill(-child.pid, 'SIGKILL')
          for (const pid of existsSync(pids) ? text(pids).trim().split(' ') : []) end(Number(pid))
        }
      })
    }

    test('end with all that they started when netimage is killed', async () => {
      const pids = workspace.path('killed-pids')
      const { child, ended } = startNetimage([
        ...['build', system.toplevel, '-o', workspace.path('images', 'killed', 'image')],
        ...['--from', system.world.storeRoot, '--no-check-sigs', '--pool', workspace.pool],
        ...['--populate-root-commands', commandsThatStay('', pids)],
      ])
      try {
        await waitUntil('the commands run', () => existsSync(pids))
        child.kill('SIGKILL')
        await ended
        for (const pid of text(pids).trim().split(' ')) await assertGone(Number(pid))
      } finally {
        for (const pid of existsSync(pids) ? text(pids).trim().split(' ') : []) end(Number(pid))
      }
    })
  })

  function writeContent(word: string): string {
    const directory = workspace.path(`content-${word}`)
    mkdirSync(directory)
    writeFileSync(join(directory, 'file'), `${word}\n`)
    return directory
  }
})

/** @param pids the file that gets the numbers of two of their processes */
function commandsThatStay(before: string, pids: string): string {
  return `${before}(sleep 1000; true) & echo $! $$ > ${pids}.new; mv ${pids}.new ${pids}; sleep 1000; sleep 1000`
}
