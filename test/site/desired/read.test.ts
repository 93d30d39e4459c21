// Reading the file of a site: what it means, and what is wrong with it.

import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { parse, stringify } from 'smol-toml'
import { defaultGroup } from '../../../src/site/desired/desired.ts'
import type { Problem } from '../../../src/site/desired/problem.ts'
import { parseDesired, readSiteFile } from '../../../src/site/desired/read.ts'
import { assertError, netimageError } from '../../support/errors.ts'
import { freshNames, temporaryDirectory } from '../../support/temporary.ts'
import { arbitraryDesired, documentOf } from './support/arbitrary.ts'

const fresh = freshNames(temporaryDirectory())

function written(name: string, text: string): string {
  const directory = fresh()
  mkdirSync(directory)
  writeFileSync(join(directory, name), text)
  return join(directory, name)
}

function problemsOf(input: unknown): Problem[] {
  const read = parseDesired(input)
  return 'problems' in read ? read.problems : []
}

/** A file in which only this group is wrong. */
const inGroup = (group: object) => ({ group: { lab: { system: 'pi', machines: [], ...group } } })
const inMachine = (machine: object) => ({ machine: { pi1: machine } })

suite('the file of a site', () => {
  test('means the same in each format', async () => {
    const document = { group: { lab: { system: '.#lab', machines: ['PI1'] } } }
    const json = JSON.stringify(document)
    const files = {
      'site.toml': '[group.lab]\nsystem = ".#lab"\nmachines = ["PI1"]\n',
      'site.json': json,
      'site.ts': `const site: object = ${json}\nexport default site\n`,
      'site.js': `module.exports = ${json}`,
      'site.mjs': `export default Promise.resolve(${json})`,
    }
    const lab = {
      ...{ name: 'lab', system: '.#lab', machines: ['pi1'] },
      ...{ ...defaultGroup, maxUnavailable: { count: 1 } },
    }
    for (const [name, text] of Object.entries(files)) {
      const file = written(name, text)
      const read = await readSiteFile(file)
      assert.deepEqual(read.desired, { groups: [lab], machines: [] }, name)
      assert.deepEqual([read.file, read.directory], [file, join(file, '..')])
    }
  })

  test('is read as it was written', () => {
    fc.assert(
      fc.property(arbitraryDesired, (desired) => {
        const text = stringify(documentOf(desired))
        assert.deepEqual(parseDesired(parse(text)), { desired }, text)
      }),
    )
  })

  test('may be empty', () => {
    assert.deepEqual(parseDesired(parse('')), { desired: { groups: [], machines: [] } })
  })

  test('tells all mistakes at once, each with its key', () => {
    const problems = problemsOf({
      group: { lab: { machines: ['pi1', 3], halts: 2, waves: [['pi1'], { pause: true }] }, Lab: 1 },
      machine: { pi1: { mac: 'dc:a6' } },
      others: {},
    })
    assert.deepEqual(problems.map(({ field }) => field).toSorted(), [
      'group.Lab',
      'group.Lab',
      'group.lab.halts',
      'group.lab.machines.1',
      'group.lab.system',
      'group.lab.waves.1',
      'machine.pi1.mac',
      'others',
    ])
    const hintOf = (field: string) => problems.find((each) => each.field === field)?.hint
    assert.match(hintOf('group.lab.halts') ?? '', /^Did you mean halt\? The keys are .*halt/)
    assert.equal(hintOf('group.lab.system'), 'Write: system = ".#lab"')
  })

  test('refuses values that it does not know', () => {
    const wrong: Record<string, object> = {
      'group.lab.system': inGroup({ system: 'a\nb' }),
      'group.lab.machines': inGroup({ machines: 'pi1' }),
      'group.lab.machines.0': inGroup({ machines: ['pi 1'] }),
      'group.lab.waves': inGroup({ waves: [] }),
      'group.lab.waves.0': inGroup({ waves: ['0%'] }),
      'group.lab.waves.1': inGroup({ waves: ['rest', 1.5] }),
      'group.lab.waves.2': inGroup({ waves: [1, 1, { machines: ['pi1'], share: 1 }] }),
      'group.lab.waves.3': inGroup({ waves: [1, 1, 1, { pause: true }] }),
      'group.lab.waves.0.share': inGroup({ waves: [{ share: 'all' }] }),
      'group.lab.waves.0.pause': inGroup({ waves: [{ share: 1, pause: 'yes' }] }),
      'group.lab.max-unavailable': inGroup({ 'max-unavailable': '101%' }),
      'group.lab.health': inGroup({ health: '10m' }),
      'group.lab.health.deadline': inGroup({ health: { deadline: '0s' } }),
      'group.lab.health.tries': inGroup({ health: { tries: 0 } }),
      'group.lab.health.settle': inGroup({ health: { settle: 60 } }),
      'group.lab.health.tcp.0': inGroup({ health: { tcp: [65_536] } }),
      'group.lab.halt': inGroup({ halt: 2 }),
      'group.lab.halt.bad': inGroup({ halt: {} }),
      'group.lab.rebuild': inGroup({ rebuild: true }),
      'group.lab.keep': inGroup({ keep: -1 }),
      'machine.pi1.mac': inMachine({ mac: ['dc:a6:32:01:02:03', ''] }),
      'machine.pi1.serial': inMachine({ serial: 'abc' }),
      'machine.pi1.host-name': inMachine({ 'host-name': 'pi.lab' }),
      'machine.pi1.address': inMachine({ address: '10.0.0.011' }),
      'machine.pi1.reboot': inMachine({ reboot: 'ssh pi1 reboot' }),
      'machine.pi1.power': inMachine({ power: [''] }),
      'machine.any': { machine: { any: {} } },
      group: { group: [] },
      machine: { machine: new Date() },
    }
    for (const [field, input] of Object.entries(wrong)) {
      const problems = problemsOf(input)
      assert.deepEqual(
        problems.map((each) => each.field),
        [field],
      )
      for (const { message, hint } of problems)
        assert.match(`${message} ${hint}`, /^it is .*\S\.?$/)
    }
    assert.deepEqual(
      problemsOf([]).map(({ field }) => field),
      ['the file'],
    )
  })

  test('silently ignores no name that objects have', () => {
    for (const key of ['__proto__', 'constructor', 'prototype']) {
      for (const text of [
        `{"${key}":{}}`,
        `{"machine":{"${key}":{}}}`,
        `{"group":{"lab":{"health":{"${key}":1}}}}`,
      ]) {
        const [problem] = problemsOf(JSON.parse(text))
        assert.equal(problem?.field.split('.').at(-1), key, text)
      }
    }
  })

  test('never fails with an error of its own, whatever it contains', () => {
    const keys = ['group', 'machine', 'lab', 'system', 'machines', 'waves', 'health', 'halt', 'mac']
    const { value } = fc.letrec((tie) => ({
      value: fc.oneof(
        { maxDepth: 5 },
        fc.jsonValue({ maxDepth: 1 }),
        fc.constantFrom(Number.NaN, 10n, undefined, new Date(0), () => {}),
        fc.array(tie('value'), { maxLength: 3 }),
        fc.dictionary(fc.oneof(fc.constantFrom(...keys), fc.string()), tie('value'), {
          maxKeys: 4,
        }),
      ),
    }))
    fc.assert(
      fc.property(value, (input) => {
        const read = parseDesired(input)
        if ('desired' in read) return
        assert.ok(read.problems.length > 0)
        for (const { field, hint } of read.problems) assert.ok(field !== '' && hint !== '')
      }),
      { numRuns: 500 },
    )
    const endless: Record<string, unknown> = {}
    endless['group'] = endless
    assert.ok(problemsOf(endless).length > 0)
  })

  test('is refused with its name and all of its problems', async () => {
    const file = written('site.toml', '[group.lab]\nsystem = 1\n')
    await assert.rejects(readSiteFile(file), (error) => {
      assertError(error, 'bad-site', /site\.toml has 2 problems:\n/, { file })
      const fields = error.details.problems?.map(({ field }) => field)
      assert.deepEqual(fields, ['group.lab.system', 'group.lab.machines'])
      return true
    })
    await assert.rejects(readSiteFile(written('site.toml', '[')), netimageError('bad-config'))
    await assert.rejects(
      readSiteFile(written('site.yaml', '')),
      netimageError('bad-config', /extension/),
    )
    await assert.rejects(readSiteFile('/nowhere/site.toml'), netimageError('file-system'))
  })
})
