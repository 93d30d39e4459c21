// An image tells whether its system notes that a boot is good.

import assert from 'node:assert/strict'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { candidateOf } from '../../src/site/candidate.ts'
import { temporaryDirectory } from '../support/temporary.ts'

const directory = temporaryDirectory()
const hash = '0c0iwz8qr6ghv2yy8pqk8kamkwqyfwwb'

/** As NixOS links them: the system, /etc, and the directory of units are store paths. */
function imageWith(units: readonly string[]) {
  const names = [`${hash}-system`, `${hash}-etc`, `${hash}-system-units`] as const
  const [system, etc, unitsOf] = names
  const at = (name: string) => join(directory, units.join('+'), name)
  mkdirSync(at(system), { recursive: true })
  symlinkSync(`/nix/store/${etc}/etc`, join(at(system), 'etc'))
  mkdirSync(join(at(etc), 'etc/systemd'), { recursive: true })
  symlinkSync(`/nix/store/${unitsOf}`, join(at(etc), 'etc/systemd/system'))
  mkdirSync(at(unitsOf))
  for (const unit of units) writeFileSync(join(at(unitsOf), unit), '')
  return {
    id: 'id',
    manifest: {
      system: {
        toplevel: `/nix/store/${system}`,
        entries: [system, 'x-special'].map((name) => ({ init: `/nix/store/${name}/init` })),
      },
    },
    rootImage: { storePaths: names.map((name) => ({ name, at: at(name) })) },
  }
}

test('a system blesses if it has the unit of our module', async () => {
  const withUnit = await candidateOf(imageWith(['other.service', 'netimage-bless.service']))
  assert.equal(withUnit.blesses, true)
  const without = await candidateOf(imageWith(['other.service']))
  assert.deepEqual(without, {
    ...{ image: 'id', blesses: false },
    toplevel: `/nix/store/${hash}-system`,
    specialisations: ['/nix/store/x-special'],
  })
})
