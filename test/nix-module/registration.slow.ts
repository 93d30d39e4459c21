// The registration at each boot: runs the module's script on the roots of machines, with real Nix.

import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, suite, test } from 'node:test'
import { check } from '../../src/index.ts'
import { readImage } from '../../src/image/manifest.ts'
import type { PathInfo } from '../../src/nix/path-info.ts'
import { parseRegistration } from '../../src/nix/registration.ts'
import { runProgram, type NixWorld } from '../support/real-nix.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { createFixtureWorld, systemExpression, type SystemRequest } from './support.ts'

const registration = 'nix-path-registration'
const agreed = 'nix/var/nix/netimage-store-state'

type Image = { image: string; root: string; toplevel: string; closure: readonly PathInfo[] }

suite('the registration at each boot', () => {
  const directory = temporaryDirectory()
  const freshRoot = freshNames(directory)
  let world: NixWorld
  // The images have the same tool, which refers to the same library. Each has one more path.
  let first: Image
  let second: Image

  const build = async (attribute: string, request: SystemRequest = {}) => {
    const expression = `(${systemExpression(request)}).config.${attribute}`
    const [path = ''] = await world.build({ expression })
    return world.realPath(path)
  }

  async function buildImage(request: SystemRequest): Promise<Image> {
    const configuration = `({ pkgs, ... }: {
      netImage.boot = [ ];
      netImage.storePaths = [
        (pkgs.writeText "tool" "uses \${pkgs.writeText "library" "as it is"}")
        (pkgs.writeText "only" "in an image of ${request.release}")
      ];
    })`
    const image = await build('system.build.netImage', { configuration, ...request })
    const { options, manifest, closure } = await readImage(image)
    const root = join(image, 'net-image', options.rootDirectoryName)
    return { image, root, toplevel: manifest.system.toplevel, closure }
  }

  before(async () => {
    world = await createFixtureWorld(join(directory, 'world'))
    first = await buildImage({ release: '26.05' })
    second = await buildImage({ release: '24.05' })
    const unit = 'systemd.services.register-net-image.serviceConfig.ExecStart'
    const script = readFileSync(await build(unit), 'utf8')
    // The programs of the script can be counted, and can fail.
    const counted = script.replace('PATH=', () => 'export MAIN=$$ PATH=/programs:')
    assert.notEqual(counted, script)
    writeFileSync(join(directory, 'counted-script'), counted, { mode: 0o755 })
    writeFileSync(join(directory, 'script'), script, { mode: 0o755 })
    writeFileSync(join(directory, 'program'), program, { mode: 0o755 })
  })

  /** The root of a machine that has not booted. */
  function makeMachine(): string {
    const root = freshRoot()
    for (const name of ['etc', 'run', 'nix/store']) {
      mkdirSync(join(root, name), { recursive: true })
    }
    writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0::/root:/bin/sh\n')
    return root
  }

  /** What the commands said, and what `database` said of Nix's database after them. */
  function split(output: string): { said: string; known: PathInfo[] } {
    const [said = '', known = ''] = output.split('database\n')
    return { said, known: parseRegistration(known, 'the database') }
  }

  const sorted = (infos: readonly PathInfo[]) =>
    infos
      .map(({ path, narHash, narSize, references }) => ({ path, narHash, narSize, references }))
      .toSorted((one, other) => (one.path < other.path ? -1 : 1))
  const pathOf = (image: Image, name: string) => {
    const found = image.closure.find(({ path }) => path.endsWith(`-${name}`))
    assert.ok(found, name)
    return found.path
  }

  test('registers the image with Nix, and makes the system’s profile', async () => {
    const root = makeMachine()
    const { known } = split(await inRoot(root, 'serve first; /script; check_store first; database'))
    assert.deepEqual(sorted(known), sorted(first.closure))
    assert.ok(existsSync(join(root, 'etc/NIXOS')))
    assert.ok(existsSync(join(root, registration)), 'other machines may need it')
  })

  test('runs no program of Nix and writes nothing if nothing has changed', async () => {
    const said = await inRoot(
      makeMachine(),
      `serve first; /script
      list() { find /nix /etc -printf '%p %T@ %C@\n' | sort; }
      list > /before
      /counted-script
      list | diff /before - >&2
      cat /calls`,
    )
    const programs = ['cmp', 'ls', 'mkdir', 'sha256sum', 'sha256sum', 'stat']
    assert.deepEqual(said.trim().split('\n').toSorted(), programs)
  })

  test('does not verify a database that it has made itself', async () => {
    const said = await inRoot(
      makeMachine(),
      `serve first; /counted-script > /dev/null; check_store first > /dev/null
      grep -xE '${changing}' /calls`,
    )
    const without = changes.filter((_, at) => at !== changes.lastIndexOf('nix-store'))
    assert.deepEqual(said.trim().split('\n'), [...without, 'sync', 'mv'])
  })

  test('forgets what is gone with the image before, and keeps what the machine has added', async () => {
    const { said, known } = split(
      await inRoot(
        makeMachine(),
        `serve first; /script
        mkdir -p /own-1.0/bin
        printf '#!/bin/bash\\necho hello' > /own-1.0/bin/hello
        chmod +x /own-1.0/bin/hello
        nix-env --profile /profile --install "$(nix-store --add /own-1.0)"
        serve second; /script; check_store second
        /profile/bin/hello
        database`,
      ),
    )
    assert.equal(said.trim().split('\n').at(-1), 'hello')
    const ofImage = known.filter(
      ({ path }) =>
        !/-(own-1\.0|user-environment(\.drv)?|env-manifest\.nix|builder\.sh)$/.test(path),
    )
    assert.deepEqual(sorted(ofImage), sorted(second.closure))
    assert.ok(known.some(({ path }) => path.endsWith('-own-1.0')))
    assert.ok(known.some(({ path }) => path.endsWith('-user-environment')))
  })

  // The programs that change something in a boot with another image. `--verify` is the second
  // nix-store. Its exit status does not tell whether the database is broken.
  const changes = ['nix-store', 'touch', 'nix-env', 'cp', 'sync', 'mv', 'nix-store', 'sync']
  const steps = [...changes, 'sync', 'mv']
  const losses = {
    // A stop at a sync leaves the same as a stop before or after it.
    'the power fails': { how: 'kill', stops: [1, 2, 3, 4, 6, 7, 10], statuses: [137] },
    'Nix fails': { how: 'exit', stops: [1, 3, 7], statuses: [1, 1, 0] },
  }
  for (const [what, { how, stops, statuses }] of Object.entries(losses)) {
    test(`goes on at the next boot if ${what}`, async () => {
      const said = await inRoot(
        makeMachine(),
        `serve first; /script; cp -a /nix /before
        serve second; /counted-script; check_store second
        grep -xE '${changing}' /calls
        nix-store --dump-db > /expected
        for stop in ${stops.join(' ')}; do
          rm -rf /nix/* /calls; cp -a /before/. /nix; serve second
          HOW=${how} STOP=$stop /counted-script > /log 2>&1 && status=0 || status=$?
          echo "stopped with $status at $(grep -xE '${changing}' /calls | tail -n 1)"
          /script
          nix-store --dump-db | diff - /expected >&2
          test /nix/var/nix/profiles/system/init -ef $second/init
        done`,
      )
      const stopped = stops.map(
        (stop, at) => `stopped with ${statuses[at] ?? statuses[0]} at ${steps[stop - 1]}`,
      )
      assert.deepEqual(said.trim().split('\n'), [...steps, ...stopped])
    })
  }

  test('registers paths again that were collected and are back', async () => {
    const tool = pathOf(first, 'tool')
    const { said, known } = split(
      await inRoot(
        makeMachine(),
        `serve first; /script
        nix-store --delete ${tool} && echo deleted
        serve first; /script; check_store first; database`,
      ),
    )
    assert.match(said, /^deleted$/m)
    assert.deepEqual(sorted(known), sorted(first.closure))
  })

  test('registers no path that is gone, and none that refers to one', async () => {
    const { known } = split(
      await inRoot(
        makeMachine(),
        `serve first; rm -rf ${pathOf(first, 'library')}
        /script; nix-store --verify --check-contents; database`,
      ),
    )
    const rest = first.closure.filter(({ path }) => !/-(library|tool)$/.test(path))
    assert.deepEqual(sorted(known), sorted(rest))
  })

  test('tells of paths that refer to a path that is gone, at each boot, and does not fail', async () => {
    const said = await inRoot(
      makeMachine(),
      `serve first; /script
      echo "uses ${pathOf(first, 'only')}" > /own
      own=$(nix-store --add /own)
      # Nix finds references only in what it builds.
      nix-store --dump-db $own | sed 's,^0$,1\\n${pathOf(first, 'only')},' | nix-store --load-db
      serve second; /script; /script
      nix-store --check-validity $own
      serve first; /script; check_store first`,
    )
    assert.equal(said.match(/^netimage: paths of the store are gone, but/gm)?.length, 2)
  })

  test('registers another content of the same path', async () => {
    const { known } = split(
      await inRoot(
        makeMachine(),
        `serve first; /script
        hash() { nix-hash --type sha256 --base32 $1; }
        tool=${pathOf(first, 'tool')}; old=$(hash $tool)
        chmod +w $tool; sed -i s/uses/USES/ $tool; chmod -w $tool
        sed -i s/$old/$(hash $tool)/ /${registration}
        /script; check_store first; database`,
      ),
    )
    const changed = known.find(({ path }) => path === pathOf(first, 'tool'))
    const before = first.closure.find(({ path }) => path === changed?.path)
    assert.notEqual(changed?.narHash.hex, before?.narHash.hex)
  })

  test('does not trust a mark that is damaged or missing', async () => {
    const { known } = split(
      await inRoot(
        makeMachine(),
        `serve first; /script
        for damage in 'truncate --size=70' 'rm'; do
          nix-store --delete ${pathOf(first, 'tool')}
          /script; $damage /${agreed}; serve first
          /script; check_store first
        done
        database`,
      ),
    )
    assert.deepEqual(sorted(known), sorted(first.closure))
  })

  test('registers everything in a new database', async () => {
    const { known } = split(
      await inRoot(
        makeMachine(),
        'serve first; /script; rm -rf /nix/var/nix/db; /script; check_store first; database',
      ),
    )
    assert.deepEqual(sorted(known), sorted(first.closure))
  })

  test('skips the registration if Nix’s database is read-only', async () => {
    const root = makeMachine()
    await inRoot(
      root,
      `serve first; mkdir -p /nix/var/nix
      mount --rbind / /mnt; mount -o remount,bind,ro /mnt; chroot /mnt /script`,
    )
    assert.ok(!existsSync(join(root, agreed)))
    assert.ok(!existsSync(join(root, 'etc/NIXOS')))
  })

  test('does not stop scripted stage 2 if the registration fails', async () => {
    const request = { release: '24.05', configuration: '{ netImage.boot = [ ]; }' }
    const expression = `(${systemExpression(request)}).config.boot.postBootCommands`
    const commands = await world.nix(['eval', '--impure', '--raw', '--expr', expression])
    const [path = ''] = /\/nix\/store\/\S+-register-net-image/.exec(commands) ?? []
    assert.match(
      commands,
      new RegExp(`if \\[ -f /${registration} \\]; then\n  ${path} \\|\\| echo`),
    )

    const root = makeMachine()
    const next = `serve first\n${commands.replace(path, '/bin/false')}\necho on > /etc/next`
    await inRoot(root, next)
    assert.equal(readFileSync(join(root, 'etc/next'), 'utf8'), 'on\n')
  })

  test('is recognized by netimage check, in a unit and in a script', async () => {
    const none = '{ netImage.boot = [ ]; nix.enable = false; }'
    const without = await build('system.build.netImage', { configuration: none })
    const rules = []
    for (const subject of [first.image, second.image, without]) {
      const { findings } = await check({ subject })
      rules.push(findings.some(({ rule }) => rule === 'no-registration'))
    }
    assert.deepEqual(rules, [false, false, true])
  })

  /** Runs bash in a machine's root, with this machine's programs and the functions of `shell`. */
  async function inRoot(root: string, commands: string): Promise<string> {
    const outer = `
      root=$1 directory=$2
      for name in usr bin lib lib64 proc dev; do
        mkdir -p $root/$name
        mount --rbind /$name $root/$name
      done
      mkdir -p $root/mnt $root/root $root/tmp $root/images/first $root/images/second $root/programs
      mount --bind $4 $root/images/first
      mount --bind $5 $root/images/second
      cp $directory/script $directory/counted-script $directory/program $root
      for name in cmp cp ls mkdir mv nix-env nix-store readlink sha256sum stat sync touch; do
        ln -s /program $root/programs/$name
      done
      exec chroot $root /bin/bash -euc "$3" < /dev/null
    `
    const environment = {
      PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
      HOME: '/root',
      NIX_CONFIG: 'build-users-group =\nsubstituters =\nsandbox = false\nfsync-metadata = false',
    }
    const namespace = ['--map-root-user', '--mount', '--pid', '--fork', 'sh', '-euc']
    const names = `first=${first.toplevel} second=${second.toplevel}`
    return await runProgram(
      'unshare',
      [
        ...namespace,
        outer,
        ...['sh', root, directory, `${names}\n${shell}\n${commands}`, first.root, second.root],
      ],
      { environment },
    )
  }
})

/**
 * `serve` does what a server does when a machine boots: the store has all paths of the image, and
 * none of the other image. `check_store` asks Nix whether all is well.
 */
const shell = `
set -E
trap 'echo "failed: $BASH_COMMAND" >&2' ERR
serve() {
  local image=/images/$1 name
  for name in $(ls /images/first/nix/store /images/second/nix/store | sort -u); do
    if [ -n "$name" ] && ! [ -e $image/nix/store/$name ]; then rm -rf /nix/store/$name; fi
  done
  cp --archive --no-clobber $image/nix/store /nix
  chmod u+w /nix/store
  cp --force $image/${registration} /${registration}
  ln --symbolic --force --no-dereference \${!1} /run/current-system
}
check_store() {
  nix-store --verify --check-contents
  nix-store --check-validity $(cd /images/$1; ls -d nix/store/* | sed s,^,/,)
  test "$(readlink -f /nix/var/nix/profiles/system)" = \${!1}
  test -e /${registration}
}
database() {
  echo database
  nix-store --dump-db
}
`

const changing = 'cp|mv|nix-env|nix-store|sync|touch'

/**
 * A program of the script: notes its name. If it is the changing program with the number $STOP, it
 * ends the script or fails.
 */
const program = `#!/bin/bash
name=\${0##*/}
echo $name >> /calls
if [ -n "\${STOP-}" ] && [[ $name =~ ^(${changing})$ ]] && [ "$(grep -cxE '${changing}' /calls)" = $STOP ]; then
  if [ $HOW = kill ]; then kill -9 $MAIN; fi
  exit 1
fi
exec /usr/bin/$name "$@"
`
