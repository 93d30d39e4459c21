import { suite, test } from 'node:test'
import { inventPath } from '../support/synthetic.ts'
import { assertFindings, findingsOf } from './make-system.ts'

const rule = 'no-registration'
const nothing = { paths: { 'local-cmds': '# nothing\n' } }

suite('no-registration', () => {
  test('a system that never reads the registration', async () => {
    const etc = { systemd: { system: { 'nix-daemon.service': '[Service]\n' } } }
    for (const parts of [
      nothing,
      { ...nothing, etc },
      { init: '\x7fELF nix-path-registration\0' },
    ]) {
      assertFindings(await findingsOf(parts), {
        rule,
        level: 'warning',
        fix: /systemd\.services\.register-net-image = \{/,
        path: /-nixos-system-test$/,
      })
    }
  })

  test('nothing is found if the script of stage 2 reads the registration', async () => {
    const init = '#!/bin/sh\nnix-store --load-db </nix-path-registration\n'
    assertFindings(await findingsOf({ ...nothing, init }))
  })

  test('nothing is found if a unit, or the script that it starts, reads the registration', async () => {
    const script = inventPath('unit-script-register-nix-paths-start')
    const service = { 'register.service': `[Service]\nExecStart=${script}/bin/register-start\n` }
    const paths = {
      ...nothing.paths,
      'unit-script-register-nix-paths-start': {
        bin: { 'register-start': 'nix-store --load-db < /nix-path-registration\n' },
      },
    }
    assertFindings(await findingsOf({ paths, etc: { systemd: { system: service } } }))
    const condition = '[Unit]\nConditionPathExists=/nix-path-registration\n'
    const system = { 'register-nix-paths.service': condition }
    assertFindings(await findingsOf({ ...nothing, etc: { systemd: { system } } }))
  })

  test('nothing is found in a system without Nix', async () => {
    assertFindings(await findingsOf({ ...nothing, programs: ['sh'] }))
  })
})
