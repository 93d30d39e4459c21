// The service and the timer by which a machine restarts itself, as real Nix makes them, in a Debian with its
// own systemd. restart.test.ts shows what the script does with each answer.

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import * as v from 'valibot'
import { runInDebian } from '../packaging/support/debian.ts'
import { temporaryDirectory } from '../support/temporary.ts'
import { createFixtureWorld, systemExpression } from './support.ts'

const unitsSchema = v.object({
  service: v.object({
    description: v.string(),
    serviceConfig: v.record(v.string(), v.string()),
  }),
  timer: v.object({
    description: v.string(),
    wantedBy: v.array(v.string()),
    timerConfig: v.record(v.string(), v.string()),
  }),
})

const section = (name: string, lines: Record<string, string>) =>
  `[${name}]\n${Object.entries(lines)
    .map(([key, value]) => `${key}=${value}\n`)
    .join('')}`

/** It plays the server: the site wants a restart only when the machine asks for the second time. */
const answer = `set -eu
cd /nix/var/netimage/restart
[ -e ready ] || exit 0
[[ $(cat ready) =~ '"id": "'([^'"']+)'", "ready": true' ]]
status=wait
[ ! -e /run/has-asked ] || status=restart
touch /run/has-asked
echo "asked, and told: $status"
printf 'id %s\\nstatus %s\\n' "\${BASH_REMATCH[1]}" $status >answer
`

/** It asks as NixOS would let it, but each second: minutes only make the test long. */
const script = `trap journalctl ERR
program=$(sed -n 's/^ExecStart=//p' /shared/netimage-restart.service)
mkdir -p /nix/store /nix/var
cp /shared/program $program
cd /etc/systemd/system
cp /shared/netimage-restart.service /shared/netimage-restart.timer .
systemd-analyze verify --man=no netimage-restart.timer netimage-restart.service
systemctl enable --now netimage-restart.timer
echo "first: $(systemctl show --property NextElapseUSecMonotonic --value netimage-restart.timer)"
systemctl stop netimage-restart.timer
sed -i -E 's/=[0-9]+(s|min)$/=1s/' netimage-restart.timer
printf '[Path]\\nPathChanged=/nix/var/netimage/restart/ready\\n' >answer.path
printf '[Service]\\nType=oneshot\\nExecStart=/bin/bash /shared/answer-ready\\n' >answer.service
# In place of what stops the machine.
printf '[Unit]\\nWants=stopped.service\\n' >reboot.target
printf '[Service]\\nType=oneshot\\nExecStart=true\\n' >stopped.service
systemctl daemon-reload
systemctl start answer.path netimage-restart.timer
grep --max-count=1 'Finished stopped.service' < <(journalctl --follow --since today --output cat)
journalctl --output cat`

test('systemd starts the service by its timer again and again, and restarts the machine when the site lets it', async () => {
  const directory = temporaryDirectory()
  const world = await createFixtureWorld(join(directory, 'world'))
  const configuration = '{ netImage.site.rebootWhenAsked = true; }'
  const expression = `with (${systemExpression({ configuration })}).config.systemd; {
    service = let each = services.netimage-restart; in {
      inherit (each) description;
      serviceConfig = each.serviceConfig // { ExecStart = "\${each.serviceConfig.ExecStart}"; };
    };
    timer = { inherit (timers.netimage-restart) description wantedBy timerConfig; };
  }`
  const { service, timer } = v.parse(
    unitsSchema,
    JSON.parse(await world.nix(['eval', '--impure', '--json', '--expr', expression])),
  )
  const [program = ''] = await world.build({
    expression: `(${systemExpression({ configuration })}).config.systemd.services.netimage-restart.serviceConfig.ExecStart`,
  })
  assert.equal(service.serviceConfig['ExecStart'], program)
  const write = (name: string, text: string) => {
    writeFileSync(join(directory, name), text)
    return join(directory, name)
  }
  const described = ({ description }: { description: string }) =>
    section('Unit', { Description: description })
  const output = runInDebian(script, join(directory, 'debian'), {
    program: world.realPath(program),
    'answer-ready': write('answer-ready', answer),
    'netimage-restart.service': write(
      'service',
      described(service) + section('Service', service.serviceConfig),
    ),
    'netimage-restart.timer': write(
      'timer',
      described(timer) +
        section('Timer', timer.timerConfig) +
        section('Install', { WantedBy: timer.wantedBy.join(' ') }),
    ),
  })
  assert.match(output, /^first: \d/m)
  assert.match(output, /^asked, and told: wait\n[^]*^asked, and told: restart\n/m)
  assert.match(output, /^netimage: the site wants this machine to restart, and it may now$/m)
  assert.match(output, /^Finished stopped\.service\.$/m)
})
