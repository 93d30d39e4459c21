// What a plan says of the machines of a site.

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import fc from 'fast-check'
import { makeCatalogue } from '../../../src/site/desired/catalogue.ts'
import { parseDesired } from '../../../src/site/desired/read.ts'
import { resolveGroups } from '../../../src/site/desired/resolve.ts'
import { assign, decide } from '../../../src/site/life/choose.ts'
import type { Candidate } from '../../../src/site/life/life.ts'
import { stalePlan } from '../../../src/site/plan/difference.ts'
import { digestOf } from '../../../src/site/plan/digest.ts'
import { makePlan } from '../../../src/site/plan/plan.ts'
import type { Declarations } from '../../../src/site/declarations.ts'
import { declarationsAfter } from '../../../src/site/plan/declared.ts'
import { groupsOf } from '../../../src/site/plan/decide.ts'
import type { Plan, PlannedImage } from '../../../src/site/plan/planned.ts'
import { readPlan } from '../../../src/site/plan/read-plan.ts'
import { newRollout, type Rollout } from '../../../src/site/rollout/rollout.ts'
import type { Hold } from '../../../src/site/rollout/statements.ts'
import { machinesOf, type SiteNow } from '../../../src/site/plan/site-now.ts'
import { unfitImages } from '../../../src/site/plan/unfit.ts'
import { candidate, minutes, simulateSite } from '../life/support/simulate.ts'
import { toStorePath } from '../../../src/nix/store-path.ts'
import { inventPath } from '../../support/synthetic.ts'

const mac = (number: number) => `dc:a6:32:00:00:${String(number).padStart(2, '0')}`
const days = 24 * 60 * minutes

function imageOf(id: string, platform = 'aarch64-linux'): PlannedImage {
  const { toplevel } = candidate(id)
  const kernel = `/nix/store/${id}-linux/Image`
  return { id, name: `image-${id}`, label: id, platform, toplevel, kernel }
}

const shared = toStorePath(inventPath('shared')) ?? assert.fail()
const closureOf = (id: string) => [
  { path: shared, narSize: 1000 },
  { path: toStorePath(inventPath(`system-${id}`)) ?? assert.fail(id), narSize: 10 },
]

/** A site with simulated machines that has all images. */
function planned(document: object, image = imageOf('b')) {
  const machines = simulateSite()
  const names = new Map<string, string>()
  let declarations: Declarations = new Map()
  const holds = new Map<string, Hold>()
  const rollouts: { newest: Rollout[] } = { newest: [] }
  const groups = new Map<string, string>()
  const now = (): SiteNow => ({
    ...{ lives: machines.lives, broken: new Map(), names, uptime: machines.now.uptime },
    rollouts: {
      ...rollouts,
      holds,
      groups,
      broken: [],
      requests: new Map(),
      brokenRequests: [],
      readiness: new Map(),
    },
    declarations,
    willKeep: () => () => ({ files: [], more: 0 }),
    async describe(life, number) {
      const { image = '', published } =
        life.generations.find((each) => each.number === number) ?? {}
      if (published !== undefined) return { booted: { image, toplevel: published, isOwn: true } }
      const { id: _id, ...more } = imageOf(image)
      return { booted: { image, ...more }, closure: closureOf(image) }
    },
  })
  return {
    ...{ machines, names, holds, rollouts, groups },
    /** The machine boots the image, and is up. */
    comesUp(machine: string, boots: Candidate) {
      machines.change(machine, (life) => {
        const assigned = assign(life, boots, machines.now, 'person')
        return 'refused' in assigned ? assert.fail() : assigned
      })
      machines.begin(machine)
      machines.bless(machine)
      machines.wait(3 * minutes)
    },
    /** As the command, except that the machines do not boot anything else. */
    apply({ groups: planned, declarations: changed }: Plan): void {
      declarations = declarationsAfter(declarations, changed)
      groups.clear()
      for (const [machine, group] of groupsOf(planned)) groups.set(machine, group)
      rollouts.newest = planned.map(({ name, ...group }, at) => {
        const settings = { ...group, group: name, candidate: candidate(group.image.id) }
        return newRollout(at + 1, 0, settings, new Map())
      })
    },
    async plan(): Promise<Plan> {
      const read = parseDesired(document)
      if ('problems' in read) assert.fail(JSON.stringify(read.problems))
      const catalogue = makeCatalogue(read.desired, machinesOf(now(), new Map()))
      const { groups, notes } = resolveGroups(read.desired, catalogue)
      const withImages = groups.map((group) => ({
        ...{ group, image, closure: closureOf(image.id), files: [], findings: [] },
      }))
      return await makePlan(withImages, catalogue.named, notes, now())
    },
  }
}

const lab = (more: object = {}) => ({
  group: { lab: { system: 'b', machines: ['dc:*'], ...more } },
})

const changesIn = ({ groups }: Plan) =>
  groups.flatMap(({ machines }) => machines.map(({ change }) => change))

suite('a plan', () => {
  test('says what each machine boots next, and what changes for those that boot the same', async () => {
    const site = planned(lab())
    site.comesUp(mac(1), candidate('a'))
    site.comesUp(mac(2), candidate('b'))
    site.comesUp(mac(3), candidate('a'))
    site.comesUp(mac(4), candidate('b'))
    site.comesUp(mac(4), candidate('a'))
    site.names.set(mac(5), 'new')
    site.comesUp(mac(6), { ...candidate('a'), toplevel: '/nix/store/own', published: 'own' })
    const { groups, isDone } = await site.plan()
    assert.equal(isDone, false)
    const [group] = groups
    assert.partialDeepStrictEqual(group?.machines, [
      { machine: mac(1), current: 1, lastGood: 1, change: 'new' },
      { machine: mac(2), current: 1, lastGood: 1, change: 'nothing' },
      { machine: mac(3), change: 'new' },
      { machine: mac(4), current: 2, lastGood: 2, change: 'new' },
      { machine: mac(6), change: 'new', replacesOwn: '/nix/store/own' },
      { machine: mac(5), name: 'new', change: 'new', away: 'never seen' },
    ])
    const ofImage = { image: 'a', name: 'image-a', kernel: '/nix/store/a-linux/Image' }
    assert.partialDeepStrictEqual(group?.changes, [
      {
        ...{ machines: [mac(1), mac(3), mac(4)], from: ofImage },
        difference: { added: { paths: 1, bytes: 10 }, removed: { paths: 1, bytes: 10 } },
      },
      { machines: [mac(6)], from: { isOwn: true } },
      { machines: [mac(5)] },
    ])
    assert.deepEqual(
      group?.changes.map((change) => [Boolean(change.from), Boolean(change.difference)]),
      [
        [true, true],
        [true, false],
        [false, false],
      ],
    )
  })

  test('is done if all machines boot their image and have their names', async () => {
    const document = { ...lab({ machines: ['pi1'] }), machine: { pi1: { mac: mac(1) } } }
    const site = planned(document)
    site.comesUp(mac(1), candidate('b'))
    site.names.set(mac(1), 'old')
    const before = await site.plan()
    assert.deepEqual(before.names, [{ machine: mac(1), name: 'pi1', before: 'old' }])
    assert.deepEqual([before.isDone, changesIn(before)], [false, ['nothing']])
    site.names.set(mac(1), 'pi1')
    site.apply(before)
    const { isDone, names } = await site.plan()
    assert.deepEqual([isDone, names], [true, []])
  })

  test('tells which machine had a bad time with the image', async () => {
    const site = planned(lab())
    site.comesUp(mac(1), candidate('a'))
    site.comesUp(mac(1), candidate('b'))
    site.machines.change(mac(1), (life) => decide(life, 2, 'bad') ?? assert.fail())
    const { groups, isDone } = await site.plan()
    assert.partialDeepStrictEqual(groups[0]?.machines, [
      { change: 'refused', current: 1, refused: { generation: 2, reason: 'a person said so' } },
    ])
    assert.deepEqual([isDone, groups[0]?.changes], [false, []])
  })

  test('tells which machines nobody has seen for a week in which servers ran', async () => {
    const site = planned(lab())
    site.comesUp(mac(1), candidate('a'))
    site.machines.wait(6 * days)
    site.comesUp(mac(2), candidate('a'))
    site.machines.wait(2 * days)
    const { groups } = await site.plan()
    const away = groups[0]?.machines.map((each) => each.away)
    assert.ok(typeof away?.[0] === 'number' && Math.floor(away[0] / days) === 8)
    assert.equal(away[1], undefined)
  })

  test('tells which machines are held, and is another plan if a hold has ended', async () => {
    const site = planned(lab())
    site.comesUp(mac(1), candidate('a'))
    const free = await site.plan()
    site.holds.set(mac(1), { at: 0, by: 'a test' })
    const held = await site.plan()
    assert.equal(held.groups[0]?.machines[0]?.isHeld, true)
    assert.notEqual(held.digest, free.digest)
    assert.match(stalePlan(held, free).message, /group lab: .* is not held any more$/m)
    assert.match(stalePlan(free, held).message, /group lab: .* is held$/m)
  })

  test('refuses an image for another processor', async () => {
    const site = planned(lab(), imageOf('b', 'x86_64-linux'))
    site.comesUp(mac(1), candidate('a'))
    site.names.set(mac(2), 'new')
    site.names.set(mac(1), 'pi1')
    const problems = unfitImages(await site.plan())
    assert.equal(problems.length, 1)
    assert.match(problems[0]?.message ?? '', /x86_64-linux, but pi1 of this group boot aarch64/)
    const fit = planned(lab())
    fit.comesUp(mac(1), candidate('a'))
    assert.deepEqual(unfitImages(await fit.plan()), [])
  })
})

suite('a group with a roll-out', () => {
  const begins = ({ groups }: Plan) => groups[0]?.begins
  /** Changes the newest roll-out. */
  function change(site: ReturnType<typeof planned>, more: Partial<Rollout>): void {
    site.rollouts.newest = site.rollouts.newest.map((each) => ({ ...each, ...more }))
  }

  async function applied() {
    const site = planned(lab())
    site.comesUp(mac(1), candidate('a'))
    site.comesUp(mac(2), candidate('a'))
    site.apply(await site.plan())
    return site
  }

  test('needs no other one while this brings the image to its machines', async () => {
    const site = await applied()
    for (const state of ['running', 'paused', 'done'] as const) {
      change(site, { state })
      const plan = await site.plan()
      assert.deepEqual([begins(plan), plan.isDone], [undefined, true], state)
    }
    // A person sees what is left to do, and another roll-out would not wait for that.
    site.names.set(mac(1), 'pi1')
    change(site, { state: 'halted', haltedBy: [mac(1)] })
    const halted = await site.plan()
    assert.deepEqual([begins(halted), halted.isDone], [undefined, false])
    assert.deepEqual(halted.groups[0]?.rollout, {
      ...{ number: 1, state: 'halted', reason: 'pi1 is bad' },
    })
    // Nor would one with other settings: its bad machines would not count any more.
    change(site, { maxUnavailable: 7 })
    assert.equal(begins(await site.plan()), undefined)
    change(site, { state: 'aborted' })
    assert.equal(begins(await site.plan()), 'settings')
  })

  test('needs another one if a machine has left the image since', async () => {
    const site = await applied()
    const given = { generation: 2, from: 0, before: { current: 1, isChosen: true } }
    change(site, { state: 'done', machines: { [mac(1)]: { given }, [mac(2)]: {} } })
    assert.equal(begins(await site.plan()), 'machines')
    site.comesUp(mac(1), candidate('b'))
    assert.equal(begins(await site.plan()), undefined)
  })

  test('needs another one for another image or other settings, which the plan names', async () => {
    const others = {
      waves: [[mac(1)], 'rest'],
      'max-unavailable': 2,
      health: { tries: 2 },
      halt: { bad: 1 },
      rebuild: 'refuse',
      keep: 5,
    }
    for (const [key, value] of Object.entries(others)) {
      const site = planned(lab({ [key]: value }))
      site.comesUp(mac(1), candidate('a'))
      site.comesUp(mac(2), candidate('a'))
      const before = await applied()
      site.rollouts.newest = before.rollouts.newest
      const [group] = (await site.plan()).groups
      assert.deepEqual([group?.begins, group?.changedSettings], ['settings', [key]])
    }
    const image = planned(lab(), imageOf('c'))
    image.comesUp(mac(1), candidate('a'))
    image.rollouts.newest = (await applied()).rollouts.newest
    assert.equal(begins(await image.plan()), 'image')
  })

  test('ends it if the file has no machine for it any more', async () => {
    const site = planned({ group: {} })
    const before = await applied()
    site.rollouts.newest = before.rollouts.newest
    for (const [machine, name] of before.groups) site.groups.set(machine, name)
    const { ends, moves, isDone } = await site.plan()
    assert.equal(isDone, false)
    assert.deepEqual(ends, [{ group: 'lab', rollout: 1 }])
    assert.deepEqual(moves, [
      { machine: mac(1), from: 'lab' },
      { machine: mac(2), from: 'lab' },
    ])
  })
})

suite('the digest of a plan', () => {
  test('changes with what applying depends on, and with nothing else', async () => {
    const group = {
      ...{
        waves: [[mac(1)], 'rest'],
        'max-unavailable': 2,
        health: { tries: 2 },
        halt: { bad: 3 },
      },
      ...{ rebuild: 'refuse', keep: 5 },
    }
    const digestOf = async (more: object, image = imageOf('b'), machine: object = {}) => {
      const document = {
        ...lab({ ...group, ...more }),
        machine: { pi1: { mac: mac(1), ...machine } },
      }
      const site = planned(document, image)
      site.comesUp(mac(1), candidate('a'))
      site.comesUp(mac(2), candidate('a'))
      return (await site.plan()).digest
    }
    const first = await digestOf({})
    assert.match(first, /^[0-9a-f]{64}$/)
    assert.equal(await digestOf({}), first)
    assert.equal(await digestOf({ system: './b' }), first)
    const others = [
      await digestOf({ waves: ['rest'] }),
      await digestOf({ waves: [{ machines: [mac(1)], pause: true }, 'rest'] }),
      await digestOf({ 'max-unavailable': 1 }),
      await digestOf({ health: { tries: 3 } }),
      await digestOf({ health: { tries: 2, tcp: [22] } }),
      await digestOf({ halt: { bad: 1 } }),
      await digestOf({ rebuild: 'allow' }),
      await digestOf({ keep: 4 }),
      await digestOf({ machines: [mac(1)] }),
      await digestOf({}, imageOf('c')),
      await digestOf({}, imageOf('b'), { reboot: ['ssh', 'pi1', 'reboot'] }),
      await digestOf({}, imageOf('b'), { 'host-name': 'other' }),
      await digestOf({}, imageOf('b'), { serial: '0badcafe' }),
    ]
    assert.equal(new Set([first, ...others]).size, others.length + 1)
  })

  test('changes if a machine boots something else meanwhile', async () => {
    const site = planned(lab())
    site.comesUp(mac(1), candidate('a'))
    const before = await site.plan()
    site.machines.wait(10 * days)
    assert.equal((await site.plan()).digest, before.digest)
    site.comesUp(mac(1), candidate('c'))
    assert.notEqual((await site.plan()).digest, before.digest)
  })
})

suite('the difference of two plans', () => {
  const base = () => {
    const site = planned(lab())
    site.comesUp(mac(1), candidate('a'))
    site.comesUp(mac(2), candidate('a'))
    return site.plan()
  }
  /** Says what differs from a plan that was printed. */
  const differenceOf = (shown: Plan, now: Plan) =>
    stalePlan(readPlan(JSON.stringify(shown), 'plan.json'), now)
      .message.split('\n')
      .slice(1)
  const withDigest = (plan: Plan): Plan => ({ ...plan, digest: digestOf(plan) })

  const text = fc.string({ maxLength: 3 })
  const words = fc.array(text, { minLength: 1, maxLength: 2 })
  const count = fc.nat(2)
  // Plans are read from JSON, which makes no objects without a prototype.
  const plain = { noNullPrototype: true }
  const settings = fc.record(
    {
      maxUnavailable: count,
      halt: count,
      health: fc.record(
        { deadline: count, tries: count, settle: count, tcp: fc.array(count) },
        plain,
      ),
      rebuild: fc.constantFrom<('allow' | 'refuse')[]>('allow', 'refuse'),
      keep: count,
      waves: fc.array(fc.record({ machines: words, pause: fc.boolean() }, plain), { maxLength: 2 }),
    },
    plain,
  )
  const ofMachine = fc.record(
    { hostName: text, address: text, reboot: words, power: words },
    { requiredKeys: [] },
  )
  const called: Record<string, string> = {
    maxUnavailable: 'max-unavailable',
    hostName: 'host-name',
  }
  /** The names in the file of the keys whose values differ. */
  const keysOf = (one: object, other: object) => {
    const [had, has] = [new Map(Object.entries(one)), new Map(Object.entries(other))]
    return [...new Set([...had.keys(), ...has.keys()])]
      .filter((key) => !isDeepStrictEqual(had.get(key), has.get(key)))
      .map((key) => called[key] ?? key)
      .toSorted()
  }
  const namedIn = (lines: readonly string[], whose: string) =>
    lines
      .flatMap((line) => line.split(`${whose} has other settings: `)[1]?.split(', ') ?? [])
      .toSorted()

  test('names exactly the settings that differ, of groups and of machines', async () => {
    const plan = await base()
    const change = (more: object, ofFirst: object) =>
      withDigest({
        ...plan,
        groups: plan.groups.map((group) => {
          const machines = group.machines.map((each, at) =>
            at === 0 ? { ...each, ...ofFirst } : each,
          )
          return { ...group, ...more, machines }
        }),
      })
    fc.assert(
      fc.property(settings, settings, ofMachine, ofMachine, (one, other, first, second) => {
        const [shown, now] = [change(one, first), change({ ...other }, second)]
        const [ofGroup, machine] = [keysOf(one, other), keysOf(first, second)]
        if (ofGroup.length + machine.length === 0) return assert.equal(shown.digest, now.digest)
        assert.notEqual(shown.digest, now.digest)
        const lines = differenceOf(shown, now)
        assert.deepEqual(namedIn(lines, 'it'), ofGroup)
        assert.deepEqual(namedIn(lines, mac(1)), machine)
        assert.equal(lines.length, Number(ofGroup.length > 0) + Number(machine.length > 0))
      }),
    )
  })

  test('tells the truth about all else that the digest counts', async () => {
    const plan = await base()
    const [group = assert.fail()] = plan.groups
    const [first = assert.fail(), second = assert.fail()] = group.machines
    const ofGroup = (more: object) => ({ ...plan, groups: [{ ...group, ...more }] })
    const ofFirst = (more: object) => ofGroup({ machines: [{ ...first, ...more }, second] })
    const running = ofGroup({ rollout: { number: 3, state: 'running' } })
    const cases: [Plan, Plan, RegExp][] = [
      [
        plan,
        ofFirst({ current: 7, change: 'nothing' }),
        /:01 boots generation 7 next, not gen.* 1$/,
      ],
      [plan, ofFirst({ lastGood: 7 }), /:01 goes back to generation 7, not to generation 1$/],
      [plan, ofFirst({ name: 'pi1' }), /:01 has the name pi1$/],
      [plan, ofFirst({ isHeld: true }), /:01 is held$/],
      [plan, ofFirst({ change: 'refused' }), /:01 has refused the image: it was bad there$/],
      [plan, ofFirst({ refused: { generation: 2 } }), /:01 has refused the image in another gen/],
      [plan, ofFirst({ replacesOwn: '/nix/store/x' }), /:01 boots another system that it built/],
      [plan, ofGroup({ machines: [first] }), /:02 has left it$/],
      [ofGroup({ machines: [first] }), plan, /:02 has joined it$/],
      [plan, ofGroup({ machines: [second, first] }), /in another order$/],
      [plan, ofGroup({ image: imageOf('c') }), /it is to get image c, not b$/],
      [plan, running, /roll-out 3 has begun meanwhile$/],
      [running, plan, /roll-out 3 is gone$/],
      [running, ofGroup({ rollout: { number: 3, state: 'done' } }), /3 is done, not running$/],
      [plan, ofGroup({ begins: 'machines' }), /another roll-out begins, or none/],
      [plan, ofGroup({ changedSettings: ['keep'] }), /other settings differ from those of/],
      [plan, { ...plan, groups: [] }, /group lab is gone$/],
      [{ ...plan, groups: [] }, plan, /group lab is new$/],
      [plan, { ...plan, names: [{ machine: mac(1), name: 'x' }] }, /to be given names$/],
      [plan, { ...plan, ends: [{ group: 'old', rollout: 1 }] }, /other roll-outs are to end$/],
      [plan, { ...plan, moves: [] }, /other machines come into a group, or leave one$/],
    ]
    for (const [shown, now, says] of cases) {
      assert.notEqual(digestOf(shown), digestOf(now), String(says))
      const lines = differenceOf(shown, now)
      assert.equal(lines.length, 1, lines.join('\n'))
      assert.match(lines[0] ?? '', says)
    }
  })
})

test('after all that a plan says is done, the next plan has nothing to do', async () => {
  const image = fc.constantFrom('a', 'b', 'c')
  const event = fc.record({
    machine: fc.integer({ min: 1, max: 4 }),
    image,
    outcome: fc.constantFrom('good', 'bad', 'assigned'),
  })
  await fc.assert(
    fc.asyncProperty(fc.array(event, { maxLength: 12 }), async (events) => {
      const site = planned({
        ...lab({ machines: ['dc:*', mac(4)] }),
        machine: { pi1: { mac: mac(1) } },
      })
      const { machines } = site
      for (const { machine, image, outcome } of events) {
        const key = mac(machine)
        machines.change(key, (life) => {
          const assigned = assign(life, candidate(image), machines.now, 'person')
          return 'refused' in assigned ? { life, told: [] } : assigned
        })
        if (outcome === 'assigned') continue
        machines.begin(key)
        machines.change(key, (life) => decide(life, undefined, outcome) ?? assert.fail())
      }
      const plan = await site.plan()
      for (const { machine, change } of plan.groups.flatMap((group) => group.machines)) {
        machines.change(machine, (life) => {
          const assigned = assign(life, candidate('b'), machines.now, 'person')
          if ('refused' in assigned) assert.equal(change, 'refused')
          else assert.equal(change, assigned.result === 'same' ? 'nothing' : assigned.result)
          return 'refused' in assigned ? { life, told: [] } : assigned
        })
      }
      for (const { machine, name } of plan.names) site.names.set(machine, name)
      site.apply(plan)
      const after = await site.plan()
      const left = changesIn(after).filter((change) => change !== 'nothing')
      assert.deepEqual(
        left,
        changesIn(plan).filter((change) => change === 'refused'),
      )
      assert.equal(after.isDone, left.length === 0)
      assert.deepEqual(
        after.groups.flatMap(({ changes }) => changes),
        [],
      )
      assert.deepEqual([plan.groups[0]?.begins, after.groups[0]?.begins], ['first', undefined])
      assert.notEqual(after.digest, plan.digest)
    }),
  )
})
