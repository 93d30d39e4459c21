// Which machines groups and waves have.

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { makeCatalogue } from '../../../src/site/desired/catalogue.ts'
import type { Share, Wave } from '../../../src/site/desired/desired.ts'
import type { SiteMachines } from '../../../src/site/desired/network-cards.ts'
import { parseDesired } from '../../../src/site/desired/read.ts'
import { resolveGroups, type Resolved } from '../../../src/site/desired/resolve.ts'
import { atLeast, atMost, resolveWaves } from '../../../src/site/desired/waves.ts'

const mac = (number: number) => `dc:a6:32:00:00:0${number}`

function siteOf(
  lastStarted: Record<string, number>,
  names: Record<string, string> = {},
): SiteMachines {
  return {
    lastStarted: new Map(Object.entries(lastStarted)),
    names: new Map(Object.entries(names).map(([name, machine]) => [machine, name])),
    ...{ settled: new Set(), declarations: new Map(), serials: new Map() },
  }
}

const empty = siteOf({})

function resolve(document: object, site: SiteMachines = empty): Resolved {
  const read = parseDesired(document)
  if ('problems' in read) assert.fail(JSON.stringify(read.problems))
  return resolveGroups(read.desired, makeCatalogue(read.desired, site))
}

function groups(each: Record<string, string[]>) {
  const all = Object.entries(each).map(([name, machines]) => [name, { system: 'pi', machines }])
  return { group: Object.fromEntries(all) }
}

function machines(each: Record<string, string | string[] | object>) {
  const all = Object.entries(each).map(([name, is]) => {
    const isMac = typeof is === 'string' || Array.isArray(is)
    return [name, isMac ? { mac: is } : is]
  })
  return { machine: Object.fromEntries(all) }
}

const keysOf = ({ groups }: Resolved) =>
  groups.map((group) => group.machines.map(({ machine }) => machine))
const problemsOf = ({ problems }: Resolved) =>
  problems.map(({ field, message }) => `${field}: ${message}`)

suite('the machines of a group', () => {
  test('are those that its names, addresses and patterns name, in this order', () => {
    const document = {
      ...groups({ lab: ['PI2', mac(9), 'shelf-*', 'dc-a6-32-00-00-0*'] }),
      ...machines({ pi2: mac(2) }),
    }
    const site = siteOf(
      { [mac(5)]: 1, [mac(4)]: 1, '10.0.0.7': 1 },
      { 'shelf-b': mac(4), 'shelf-a': mac(3) },
    )
    const resolved = resolve(document, site)
    assert.deepEqual(problemsOf(resolved), [])
    assert.deepEqual(resolved.notes, [])
    assert.deepEqual(keysOf(resolved), [[mac(2), mac(9), mac(3), mac(4), mac(5)]])
    const [group] = resolved.groups
    assert.deepEqual(
      group?.machines.map(({ name }) => name),
      ['pi2', undefined, 'shelf-a', 'shelf-b', undefined],
    )
    assert.deepEqual(keysOf(resolve(groups({ all: ['*'] }), site)), [
      ['10.0.0.7', mac(5), mac(3), mac(4)],
    ])
  })

  test('are noted if a pattern matches nothing', () => {
    const { notes, problems } = resolve(groups({ lab: ['zz*'] }))
    assert.deepEqual(problems, [])
    assert.deepEqual(notes, [
      'group.lab.machines.0: no machine matches zz*',
      'group.lab: it has no machine',
    ])
  })

  test('are told if nobody has the name, with the nearest name', () => {
    const { problems } = resolve(groups({ lab: ['shelv-a'] }), siteOf({}, { 'shelf-a': mac(1) }))
    assert.deepEqual(
      problems.map(({ field, message }) => [field, message]),
      [['group.lab.machines.0', 'no machine has the name shelv-a']],
    )
    assert.match(problems[0]?.hint ?? '', /^Did you mean shelf-a\?/)
  })

  test('are in one group only, and are named there once', () => {
    const document = {
      ...groups({ one: ['pi1', mac(1), 'pi*'], other: ['dc:*'] }),
      ...machines({ pi1: mac(1) }),
    }
    assert.deepEqual(problemsOf(resolve(document)), [
      'group.one.machines.1: pi1 is in this group already, by pi1',
      'group.other.machines.0: pi1 is in the group one already, by pi1',
    ])
  })

  test('stay the machine that the site knows if another network card is added to the file', () => {
    const document = { ...groups({ lab: ['pi1'] }), ...machines({ pi1: [mac(1), mac(2)] }) }
    const keyIn = (site: SiteMachines) => {
      const seen = resolve(document, site)
      assert.deepEqual(problemsOf(seen), [])
      return keysOf(seen).flat().join()
    }
    // The other card started later, or is the first of the file.
    assert.equal(keyIn(siteOf({ [mac(1)]: 5, [mac(2)]: 6 }, { pi1: mac(1) })), mac(1))
    assert.equal(keyIn(siteOf({ [mac(1)]: 6, [mac(2)]: 5 }, { pi1: mac(2) })), mac(2))
    const settled = new Set([mac(2)])
    assert.equal(keyIn({ ...siteOf({ [mac(1)]: 6, [mac(2)]: 5 }), settled }), mac(2))
    assert.equal(keyIn(siteOf({ [mac(1)]: 5, [mac(2)]: 6 })), mac(1))
    // What has booted may have written something.
    assert.equal(keyIn(siteOf({ [mac(2)]: 6 })), mac(2))
    assert.equal(keyIn(empty), mac(1))
  })

  test('stay the same machine once that was applied, whichever network card starts', () => {
    const document = { ...groups({ lab: ['pi1'] }), ...machines({ pi1: [mac(1), mac(2)] }) }
    const declared = { macs: [mac(1), mac(2)], serials: [] }
    const site = {
      ...siteOf({ [mac(1)]: 5, [mac(2)]: 6 }),
      declarations: new Map([[mac(1), declared]]),
    }
    const seen = resolve(document, site)
    assert.deepEqual([keysOf(seen), seen.notes], [[[mac(1)]], []])
    const lost = resolve(machines({ pi1: [mac(2)] }), site)
    assert.deepEqual(problemsOf(lost), [
      `machine.pi1.mac: it lacks ${mac(1)}, by which the site knows this machine and what it wrote`,
    ])
    // Two machines of their own again.
    assert.deepEqual(problemsOf(resolve(machines({ pi1: [mac(2)], pi2: [mac(1)] }), site)), [])
  })

  test('are told if a network card was a machine of its own', () => {
    const document = machines({ pi1: [mac(1), mac(2)] })
    const { notes } = resolve(document, siteOf({ [mac(1)]: 6, [mac(2)]: 5 }))
    assert.match(
      notes.join(),
      /^machine\.pi1: dc:a6:32:00:00:02 has booted as a machine of its own/,
    )
  })

  test('are found by a serial number once the server has seen it', () => {
    const document = {
      ...groups({ lab: ['pi1', 'pi2'] }),
      ...machines({
        pi1: { serial: '100000005b154510' },
        pi2: { mac: mac(2), serial: '0badcafe' },
      }),
    }
    const unseen = resolve(document)
    assert.deepEqual([problemsOf(unseen), keysOf(unseen)], [[], [[mac(2)]]])
    assert.match(unseen.notes.join(), /pi1: no machine with the serial number 100000005b154510 has/)
    const serials = new Map([
      [mac(1), '5b154510'],
      [mac(3), '0badcafe'],
    ])
    const seen = resolve(document, { ...empty, serials })
    assert.deepEqual([problemsOf(seen), keysOf(seen)], [[], [[mac(1), mac(2)]]])
    assert.match(seen.notes.join('\n'), /^machine\.pi1: dc:a6:32:00:00:01 says [^\n]*$/)
  })

  const byName = (resolved: Resolved) =>
    resolved.groups.flatMap(({ machines }) =>
      machines.map(({ name, desired }) => [name, ...(desired?.macs ?? [])]),
    )

  test('are not found by a serial number that another machine of the file claims', () => {
    const document = {
      ...groups({ lab: ['pi1', 'pi2', 'pi3'] }),
      ...machines({
        pi1: { serial: '5b154510' },
        pi2: { mac: mac(2) },
        pi3: { serial: '0badcafe' },
      }),
    }
    const declarations = new Map([[mac(3), { macs: [mac(3)], serials: ['0badcafe'] }]])
    const serials = new Map([
      [mac(2), '5b154510'],
      [mac(3), '5b154510'],
    ])
    const claimed = resolve(document, { ...siteOf({}, { pi3: mac(3) }), declarations, serials })
    assert.deepEqual(problemsOf(claimed), [])
    assert.deepEqual(byName(claimed), [
      ['pi2', mac(2)],
      ['pi3', mac(3)],
    ])
    assert.match(claimed.notes.join(), /pi1: no machine .* besides \S+02, \S+03, which/)
    const real = resolve(document, {
      ...siteOf({}, { pi3: mac(3) }),
      declarations,
      serials: new Map([...serials, [mac(4), '5b154510']]),
    })
    assert.deepEqual(byName(real)[0], ['pi1', mac(4)])
  })

  test('keep what was applied for their serial number, whatever is claimed or lost since', () => {
    const document = { ...groups({ lab: ['pi1'] }), ...machines({ pi1: { serial: '5b154510' } }) }
    const declarations = new Map([[mac(4), { macs: [mac(4), mac(3)], serials: ['5b154510'] }]])
    const applied = { ...siteOf({ [mac(4)]: 1 }, { pi1: mac(4) }), declarations }
    for (const serials of [new Map(), new Map([[mac(4), '0badcafe']])]) {
      const kept = resolve(document, { ...applied, serials })
      assert.deepEqual([problemsOf(kept), kept.notes], [[], []])
      assert.deepEqual(byName(kept), [['pi1', mac(4), mac(3)]])
    }
    const claimed = resolve(document, { ...applied, serials: new Map([[mac(0), '5b154510']]) })
    assert.deepEqual([problemsOf(claimed), keysOf(claimed)], [[], [[mac(4)]]])
    assert.deepEqual(byName(claimed), [['pi1', mac(4), mac(3), mac(0)]])
    assert.equal(claimed.notes.length, 1)
    assert.match(claimed.notes.join(), /^machine\.pi1: dc:a6:32:00:00:00 says .* with mac, and no/)
    // The person refuses the claim.
    const refused = resolve(
      {
        ...groups({ lab: ['pi1'] }),
        ...machines({ pi1: { mac: [mac(4), mac(3)], serial: '5b154510' } }),
      },
      { ...applied, serials: new Map([[mac(0), '5b154510']]) },
    )
    assert.deepEqual([problemsOf(refused), refused.notes], [[], []])
    assert.deepEqual(byName(refused), [['pi1', mac(4), mac(3)]])
  })

  test('have the address on the network card by which the site knows them', () => {
    const document = { ...groups({ lab: ['pi1'] }), ...machines({ pi1: { serial: '5b154510' } }) }
    const serials = new Map([
      [mac(0), '5b154510'],
      [mac(1), '5b154510'],
    ])
    const site = { ...siteOf({ [mac(0)]: 9, [mac(1)]: 1 }, { pi1: mac(1) }), serials }
    assert.deepEqual(byName(resolve(document, site)), [['pi1', mac(1), mac(0)]])
  })
})

suite('the machines of the file', () => {
  test('have addresses and names of their own', () => {
    const document = {
      ...groups({ pi3: [] }),
      ...machines({
        pi1: { mac: mac(1), 'host-name': 'pi', address: '10.0.0.1' },
        pi2: { mac: [mac(1), mac(2), mac(2)], 'host-name': 'pi', address: '10.0.0.1' },
        pi3: { mac: mac(3) },
      }),
    }
    const fields = resolve(document).problems.map(({ field }) => field)
    assert.deepEqual(fields.toSorted(), [
      ...['group.pi3', 'machine.pi2.address', 'machine.pi2.host-name', 'machine.pi2.mac'],
      'machine.pi2.mac',
    ])
  })

  test('have a serial number of their own, however it is written', () => {
    const document = machines({
      pi1: { serial: '100000005b154510' },
      pi2: { serial: '5b154510' },
    })
    assert.deepEqual(problemsOf(resolve(document)), [
      'machine.pi2.serial: the machine pi1 has the serial number 5b154510 already',
    ])
  })

  test('need an address or a serial number', () => {
    const { problems } = resolve(machines({ pi1: { 'host-name': 'lab' } }))
    assert.deepEqual(
      problems.map(({ field }) => field),
      ['machine.pi1'],
    )
  })

  test('have no host name that is the name of another machine', () => {
    const document = machines({
      pi1: { mac: mac(1), 'host-name': 'pi2' },
      pi2: { mac: mac(2) },
      pi3: { mac: mac(3), 'host-name': 'old' },
      pi4: { mac: mac(4), 'host-name': 'pi4' },
    })
    const { problems } = resolve(document, siteOf({}, { old: mac(5) }))
    assert.deepEqual(
      problems.map(({ field }) => field),
      ['machine.pi1.host-name', 'machine.pi3.host-name'],
    )
  })

  test('have no name of another machine of the site', () => {
    const document = machines({ pi1: [mac(1), mac(3)] })
    const other = resolve(document, siteOf({}, { pi1: mac(2) }))
    assert.deepEqual(problemsOf(other), [
      `machine.pi1: another machine of the site has this name: ${mac(2)}`,
    ])
    const declarations = new Map([[mac(1), { macs: [mac(1)], serials: [], hostName: 'lab' }]])
    const both = resolve(document, { ...siteOf({}, { lab: mac(1), pi1: mac(3) }), declarations })
    assert.deepEqual(problemsOf(both), [
      `machine.pi1: the site has this name for its other hardware address, ${mac(3)}`,
    ])
    // That would hide what is known by this name.
    assert.doesNotMatch(both.problems[0]?.hint ?? '', /site name/)
    assert.deepEqual(problemsOf(resolve(document, siteOf({}, { old: mac(1) }))), [])
  })

  test('are told only once if it is not known how to reach them', () => {
    const document = { ...groups({ lab: ['pi1'] }), ...machines({ pi1: {} }) }
    assert.deepEqual(problemsOf(resolve(document)), [
      'machine.pi1: it has neither a hardware address nor a serial number',
    ])
  })
})

suite('waves', () => {
  const ten = Array.from({ length: 10 }, (_, at) => `m${at}`)

  function wavesOf(waves: readonly Wave[], machines = ten) {
    const { waves: resolved, problems } = resolveWaves(machines, waves, {
      find: (selector) => [selector],
      field: 'waves',
      nameOf: (machine) => machine,
    })
    return { resolved, problems }
  }
  const wave = (members: Wave['members'], pause = false): Wave => ({ members, pause })

  test('take parts of the whole group, rounded up, and then the rest', () => {
    const waves = [
      wave({ machines: ['m3'] }),
      wave({ percent: 25 }),
      wave({ count: 2 }, true),
      wave('rest'),
    ]
    const { resolved, problems } = wavesOf(waves)
    assert.deepEqual(problems, [])
    assert.deepEqual(resolved, [
      { machines: ['m3'], pause: false },
      { machines: ['m0', 'm1', 'm2'], pause: false },
      { machines: ['m4', 'm5'], pause: true },
      { machines: ['m6', 'm7', 'm8', 'm9'], pause: false },
    ])
  })

  test('have each machine once: in the first wave that names it', () => {
    const waves = [wave({ percent: 50 }), wave({ machines: ['m0', 'm9'] }), wave('rest')]
    assert.deepEqual(wavesOf(waves).resolved[1]?.machines, ['m9'])
  })

  test('are left out if no machine is left for them', () => {
    const waves = [wave({ machines: ['m0'] }), wave({ percent: 25 }), wave('rest')]
    assert.deepEqual(wavesOf(waves, ['m0']).resolved, [{ machines: ['m0'], pause: false }])
  })

  test('wait for a person also if the wave before the pause is empty', () => {
    const waves = [wave({ percent: 50 }), wave({ machines: ['m0'] }, true), wave('rest')]
    assert.deepEqual(
      wavesOf(waves).resolved.map(({ machines, pause }) => [machines.length, pause]),
      [
        [5, true],
        [5, false],
      ],
    )
  })

  test('must have all machines, and nothing after the rest', () => {
    const left = wavesOf([wave({ percent: 80 })]).problems
    assert.deepEqual(
      left.map(({ message }) => message),
      ['no wave has m8, m9'],
    )
    const after = wavesOf([wave('rest'), wave({ count: 1 })]).problems
    assert.deepEqual(
      after.map(({ field }) => field),
      ['waves.0'],
    )
  })

  test('name only machines of the group', () => {
    const document = {
      ...groups({ lab: ['pi1'] }),
      ...machines({ pi1: mac(1), pi2: mac(2) }),
    }
    Object.assign(document.group['lab'] ?? {}, { waves: [['pi2'], ['nobody'], ['p*'], 'rest'] })
    assert.deepEqual(problemsOf(resolve(document)), [
      'group.lab.waves.0: pi2 is not in this group',
      'group.lab.waves.1: no machine has the name nobody',
    ])
  })

  test('have every machine of the group exactly once, or there is a problem', () => {
    const share: fc.Arbitrary<Share> = fc.oneof(
      fc.record({ count: fc.integer({ min: 1, max: 12 }) }),
      fc.record({ percent: fc.integer({ min: 1, max: 100 }) }),
    )
    const machines = fc.subarray(ten)
    const named = fc.record({ machines })
    const members = fc.oneof(share, named, fc.constant('rest' as const))
    const waves = fc.array(fc.record({ members, pause: fc.boolean() }), {
      minLength: 1,
      maxLength: 5,
    })
    fc.assert(
      fc.property(machines, waves, (machines, waves) => {
        const { resolved, problems } = wavesOf(waves, machines)
        const all = resolved.flatMap((wave) => wave.machines)
        assert.equal(new Set(all).size, all.length)
        assert.deepEqual(
          all.filter((machine) => !machines.includes(machine)),
          [],
        )
        assert.equal(all.length === machines.length || problems.length > 0, true)
        assert.ok(resolved.every((wave) => wave.machines.length > 0))
      }),
    )
  })

  test('count parts of machines as one, and limits never count more than the part', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 100 }),
        fc.integer({ min: 1, max: 5000 }),
        (percent, of) => {
          const exact = (percent * of) / 100
          assert.ok(atLeast({ percent }, of) >= exact && atLeast({ percent }, of) < exact + 1)
          assert.ok(atMost({ percent }, of) <= Math.max(1, exact) && atMost({ percent }, of) >= 1)
        },
      ),
    )
    assert.equal(atLeast({ percent: 25 }, 10), 3)
    assert.equal(atMost({ percent: 25 }, 10), 2)
    assert.equal(atMost({ percent: 10 }, 3), 1)
    assert.equal(atMost({ count: 7 }, 3), 7)
  })
})
