// What differs between two closures, by package.

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { toStorePath } from '../../../src/nix/store-path.ts'
import { closureDifference, type ClosureItem } from '../../../src/site/plan/closure-difference.ts'
import { packageOf, splitName } from '../../../src/site/plan/package-name.ts'
import { runProgram } from '../../support/real-nix.ts'
import { inventPath } from '../../support/synthetic.ts'

function path(name: string, build = '') {
  const [base = ''] = inventPath(`${name}${build}`).split(`-${name}`)
  return toStorePath(`${base}-${name}`) ?? assert.fail(name)
}

const item = (name: string, narSize: number, build = ''): ClosureItem => ({
  path: path(name, build),
  narSize,
})

suite('the package of a store path', () => {
  test('is split from its version as Nix does it', async () => {
    const character = fc.constantFrom('a', 'B', '9', '.', '-', '_', '+', '?', '=')
    const names = fc.sample(fc.string({ unit: character, minLength: 1, maxLength: 12 }), {
      numRuns: 300,
      seed: 1,
    })
    const known = [
      'nix-0.12pre12876',
      'linux-6.12.9',
      'nixos-system-pi-25.11',
      'x86_64-binutils-2.44',
    ]
    const all = [...names, ...known]
    const expression = `map builtins.parseDrvName (builtins.fromJSON ${JSON.stringify(JSON.stringify(all))})`
    const flags = ['--eval', '--strict', '--json', '--expr', expression]
    const printed: unknown = JSON.parse(await runProgram('nix-instantiate', flags))
    assert.deepEqual(all.map(splitName), printed)
  })

  test('has no outputs in its version', () => {
    const versions = {
      'openssl-3.4.1': '3.4.1',
      'openssl-3.4.1-bin': '3.4.1',
      'linux-6.12.9-modules-shrunk': '6.12.9',
      'glibc-2.40-66': '2.40-66',
      'python3-3.13.0-rc1': '3.13.0-rc1',
      'unit-sshd.service': '',
    }
    for (const [name, version] of Object.entries(versions)) {
      assert.equal(packageOf(path(name)).version, version, name)
    }
  })
})

suite('the difference of two closures', () => {
  test('tells new, gone and rebuilt packages, and other versions', () => {
    const before = [
      item('a-1.0', 10),
      item('b-1', 5),
      item('b-1-bin', 5),
      item('c-1', 7),
      item('d', 1),
    ]
    const after = [
      item('a-1.0', 10),
      item('b-2', 9),
      item('b-2-bin', 8),
      item('d', 3, ' again'),
      item('e-3', 4),
    ]
    assert.deepEqual(closureDifference(before, after), {
      packages: [
        { name: 'b', kind: 'version', before: ['1'], after: ['2'], bytes: 7 },
        { name: 'c', kind: 'removed', before: ['1'], after: [], bytes: -7 },
        { name: 'd', kind: 'rebuilt', before: [''], after: [''], bytes: 2 },
        { name: 'e', kind: 'added', before: [], after: ['3'], bytes: 4 },
      ],
      added: { paths: 4, bytes: 24 },
      removed: { paths: 4, bytes: 18 },
    })
  })

  test('is turned round if the closures are swapped, and its bytes add up', () => {
    const name = fc.constantFrom('a-1', 'a-2', 'a-2-bin', 'b-1', 'c', 'd-c-1')
    const build = fc.constantFrom('', ' again')
    const one = fc.tuple(name, build)
    // A store path has the same size in each closure.
    const sizeOf = (name: string, build: string) => name.length * 100 + build.length
    const closure = fc
      .uniqueArray(one, { selector: (each) => each.join('') })
      .map((all) => all.map(([name, build]) => item(name, sizeOf(name, build), build)))
    const total = (items: readonly ClosureItem[]) =>
      items.reduce((sum, { narSize }) => sum + narSize, 0)
    const opposite = { added: 'removed', removed: 'added', version: 'version', rebuilt: 'rebuilt' }
    fc.assert(
      fc.property(closure, closure, (before, after) => {
        const { packages, added, removed } = closureDifference(before, after)
        const back = closureDifference(after, before)
        assert.deepEqual([back.added, back.removed], [removed, added])
        assert.deepEqual(
          back.packages,
          packages.map((each) => ({
            ...{
              name: each.name,
              kind: opposite[each.kind],
              before: each.after,
              after: each.before,
            },
            bytes: each.bytes === 0 ? 0 : -each.bytes,
          })),
        )
        const more = total(after) - total(before)
        assert.equal(added.bytes - removed.bytes, more)
        assert.equal(
          packages.reduce((sum, { bytes }) => sum + bytes, 0),
          more,
        )
        assert.deepEqual(closureDifference(before, before.toReversed()).packages, [])
      }),
    )
  })
})
