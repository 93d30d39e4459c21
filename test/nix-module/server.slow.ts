// Real Nix evaluates the module of the server on a fixture of NixOS's options. What it makes is given
// to systemd and to the program.

import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, suite, test } from 'node:test'
import * as v from 'valibot'
import { parseDesired } from '../../src/site/desired/read.ts'
import { letServerRun, serveRollouts } from '../commands/support/rollout-server.ts'
import { buildSystem, writeSystems } from '../site/images/support/made-images.ts'
import { findProgram } from '../support/packages.ts'
import { cli, netimage, repository } from '../support/netimage.ts'
import type { NixWorld } from '../support/real-nix.ts'
import { temporaryDirectory } from '../support/temporary.ts'
import { makeWorkspace } from '../support/workspace.ts'
import { createFixtureWorld, systemExpression } from './support.ts'

const ports = v.array(v.number())
const evaluatedSchema = v.object({
  undeclared: v.array(v.string()),
  failing: v.array(v.string()),
  packages: v.array(v.string()),
  service: v.strictObject({ ExecStart: v.array(v.string()) }),
  interfaces: v.record(v.string(), v.object({ allowedTCPPorts: ports, allowedUDPPorts: ports })),
  site: v.string(),
  user: v.object({ isSystemUser: v.boolean(), home: v.string() }),
})

suite('the module of the server', () => {
  const directory = temporaryDirectory()
  const packageDirectory = join(directory, 'package')
  const image = `(${systemExpression()})`
  let world: NixWorld

  before(async () => {
    world = await createFixtureWorld(join(directory, 'world'))
    mkdirSync(join(packageDirectory, 'bin'), { recursive: true })
    const script = `#!/bin/sh\nexec ${process.execPath} ${cli} "$@"\n`
    writeFileSync(join(packageDirectory, 'bin/netimage'), script, { mode: 0o755 })
  })

  async function evaluate(settings: string, { others = '', card = 'eth1' } = {}) {
    const expression = systemExpression({
      hasModule: false,
      configuration: `{
        imports = [ ${repository}/nix/server.nix ];
        services.netimage = {
          enable = true;
          interface = "${card}";
          package = { type = "derivation"; outPath = "${packageDirectory}"; };
          ${settings}
        };
        ${others}
      }`,
    })
    const output = await world.nix([
      ...['eval', '--impure', '--json', '--expr'],
      `with ${expression}; let plain = builtins.unsafeDiscardStringContext; in {
        inherit undeclared;
        failing = map (each: each.message) (builtins.filter (each: !each.assertion) config.assertions);
        packages = map toString config.systemd.packages;
        service = builtins.mapAttrs (_: map plain) config.systemd.services.netimage.serviceConfig;
        interfaces = config.networking.firewall.interfaces;
        site = plain config.environment.etc."netimage/site.json".source.text;
        user = config.users.users.netimage;
      }`,
    ])
    return v.parse(evaluatedSchema, JSON.parse(output))
  }

  test('sets only options that exist', async () => {
    const { undeclared, failing, user } = await evaluate('')
    assert.deepEqual({ undeclared, failing }, { undeclared: [], failing: [] })
    assert.deepEqual(user, { isSystemUser: true, home: '/var/lib/netimage' })
  })

  test('opens its ports in the firewall on its interface only', async () => {
    const tcp = [80, 2049, 111]
    assert.deepEqual((await evaluate('')).interfaces, {
      eth1: { allowedTCPPorts: tcp, allowedUDPPorts: [69, 2049, 111, 67, 4011] },
    })
    const full = 'dhcp = { mode = "full"; range = "10.0.0.100-10.0.0.199"; };'
    assert.deepEqual((await evaluate(full)).interfaces, {
      eth1: { allowedTCPPorts: tcp, allowedUDPPorts: [69, 2049, 111, 67] },
    })
    const other = await evaluate('dhcp.mode = "off"; portMapper = false; ports.http = 8080;')
    assert.deepEqual(other.interfaces, {
      eth1: { allowedTCPPorts: [8080, 2049], allowedUDPPorts: [69, 2049] },
    })
    assert.deepEqual((await evaluate('openFirewall = false;')).interfaces, {})
  })

  test('systemd accepts the unit of the package with its command, and calls its exposure OK', async () => {
    const { packages, service } = await evaluate('')
    assert.deepEqual(packages, [packageDirectory])
    const unit = join(directory, 'netimage.service')
    copyFileSync(join(repository, 'packaging/files/netimage.service'), unit)
    mkdirSync(`${unit}.d`)
    const lines = service.ExecStart.map((value) => `ExecStart=${value}`)
    writeFileSync(`${unit}.d/overrides.conf`, ['[Service]', ...lines, ''].join('\n'))
    const analyze = (...args: string[]) => {
      const run = spawnSync(findProgram('systemd-analyze'), [...args, unit], { encoding: 'utf8' })
      return { status: run.status, stderr: run.stderr }
    }
    const accepted = { status: 0, stderr: '' }
    // It exits with 0 also if it ignores a line.
    assert.deepEqual(analyze('verify', '--man=no'), accepted)
    // Up to 2.5 of 10. systemd says OK up to 5.
    assert.deepEqual(analyze('security', '--offline=true', '--threshold=25'), accepted)
  })

  test('the program understands all flags, whatever the texts are', async () => {
    const { service } = await evaluate(
      `
      images = [ "/srv/100% of $HOME" ];
      allow = [ "dc:a6:32:01:02:03" "pi2" "pi3" ];
      machines.pi2.mac = "dc:a6:32:01:02:04";
      machines.pi3.mac = [ "dc:a6:32:01:02:05" "dc:a6:32:01:02:06" ];
      dhcp = {
        mode = "full";
        range = "10.0.0.100-10.0.0.199";
        network = "10.0.0.0/24";
        reservations."dc:a6:32:01:02:03" = "10.0.0.7";
        routers = [ "10.0.0.1" ];
        nameServers = [ "10.0.0.2" "10.0.0.3" ];
      };
      page = "127.0.0.1:9090";
      extraFlags = [ "--workers=0" "--page-name" "boot" ];
    `,
      { card: 'no-such-card' },
    )
    const [program, ...args] = argumentsOf(service.ExecStart)
    assert.equal(program, join(packageDirectory, 'bin/netimage'))
    assert.equal(args[1], '/srv/100% of $HOME')
    const allowed = args.flatMap((flag, at) => (flag === '--allow' ? [args[at + 1]] : []))
    assert.deepEqual(
      allowed,
      [3, 4, 5, 6].map((last) => `dc:a6:32:01:02:0${last}`),
    )
    const last = ['--page', '127.0.0.1:9090', '--workers=0', '--page-name', 'boot']
    assert.deepEqual(args.slice(-last.length), last)
    // The program looks at the flags in their order, and only then at the network.
    const state = args.indexOf('/var/lib/netimage')
    assert.notEqual(state, -1)
    const run = await netimage(args.with(state, join(directory, 'state')))
    assert.match(run.stderr, /no-such-card/)
  })

  test('the site has the image of a NixOS configuration', async () => {
    const { site, service } = await evaluate(`
      images = [ ${image} ];
      groups.lab = {
        system = ${image};
        machines = [ "pi1" "dc:a6:32:*" ];
        waves = [ [ "pi1" ] "25%" "rest" ];
        max-unavailable = 2;
      };
      groups.desk = { system = "./desk"; machines = [ ]; };
      machines.pi1.mac = "dc:a6:32:01:02:03";
    `)
    const parsed = parseDesired(JSON.parse(site))
    assert.ok('desired' in parsed, JSON.stringify(parsed))
    const [desk, lab] = parsed.desired.groups
    assert.equal(desk?.system, './desk')
    assert.match(lab?.system ?? '', /^\/nix\/store\/[^/]+\/net-image$/)
    assert.equal(argumentsOf(service.ExecStart)[2], lab?.system)
    assert.deepEqual(lab?.maxUnavailable, { count: 2 })
    assert.deepEqual(parsed.desired.machines[0]?.macs, ['dc:a6:32:01:02:03'])
  })

  test('the commands in the test of the flake say what that test waits for', async (context) => {
    // That test boots a machine with KVM, which is not everywhere.
    const script = readFileSync(join(repository, 'nix/tests/server.nix'), 'utf8')
    const commands = [
      ...script.matchAll(/server\.(?:succeed|execute|wait_until_succeeds)\(f?"(netimage .*)"\)/g),
    ].map(([, command = '']) => command)
    assert.equal(commands.length, 5)
    const workspace = makeWorkspace('flake-test')
    context.after(() => workspace.remove())
    writeSystems(workspace)
    await buildSystem(workspace, 'first', workspace.path('image'))
    const mac = 'dc:a6:32:01:02:03'
    const { site } = await evaluate(`
      groups.lab = {
        system = "${workspace.path('image')}";
        machines = [ "client" ];
        health.settle = "1s";
      };
      machines.client.mac = "${mac}";
    `)
    const [file, state] = [workspace.path('site.json'), workspace.path('state')]
    writeFileSync(file, site)
    const own = `netimage() { ${packageDirectory}/bin/netimage "$@" --state '${state}'; }`
    const statuses: (number | null)[] = []
    function run(command = ''): void {
      const line = `${own}; ${command.replace('{site}', `--file '${file}'`)}`
      statuses.push(
        spawnSync('sh', ['-c', line], { stdio: ['ignore', 'ignore', 'inherit'] }).status,
      )
    }
    // It makes the site, and begins the roll-out when it starts again.
    await letServerRun(context, state)
    const [plan, apply, hasNotBooted, isGood, planAgain] = commands
    for (const command of [plan, apply, hasNotBooted]) run(command)
    const server = await serveRollouts(context, state)
    await server.boot(mac, 'good')
    await server.close()
    await letServerRun(context, state)
    for (const command of [isGood, planAgain]) run(command)
    assert.deepEqual(statuses, [2, 0, 0, 0, 0])
  })

  test('says what is in its way', async () => {
    const ports = 'services.rpcbind.enable = true; services.nfs.server.enable = true;'
    const { failing } = await evaluate('dhcp.routers = [ "10.0.0.1" ];', { others: ports })
    assert.equal(failing.length, 3)
    assert.match(failing.join('\n'), /port 111[^]*port 2049[^]*--router 10\.0\.0\.1/)
    const full = await evaluate('dhcp.mode = "full";')
    assert.match(full.failing.join('\n'), /^services\.netimage\.dhcp\.range is missing/)
  })
})

/** As systemd reads them [systemd.service(5), "Command lines"], of the forms that the module writes. */
function argumentsOf([, line = '']: readonly string[]): string[] {
  return [...line.matchAll(/"(?:[^"\\]|\\.)*"/g)].map(([quoted]) =>
    v.parse(v.string(), JSON.parse(quoted)).replaceAll('%%', '%').replaceAll('$$', '$'),
  )
}
