// The systems that machines publish become generations of these machines.

import assert from 'node:assert/strict'
import { existsSync, mkdirSync, readdirSync, rmSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { publishedOf } from '../../src/site/publish/published.ts'
import { startPublishing } from '../../src/serve/publishing.ts'
import { openSiteDatabase, openSiteToRead, siteFile } from '../../src/site/database.ts'
import { decide } from '../../src/site/life/choose.ts'
import type { Candidate } from '../../src/site/life/life.ts'
import { beginRollout } from '../../src/site/rollout/rollouts.ts'
import { openSite } from '../../src/site/site.ts'
import { candidate } from '../site/life/support/simulate.ts'
import { group, settings } from '../site/rollout/support/simulate.ts'
import { plainSystem } from './support/plain-systems.ts'
import { imageIn } from '../site/publish/support/images.ts'
import { makeRoot, plant, plantAll, systemOf } from '../site/publish/support/roots.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { assertSameLines, describeTree } from '../support/trees.ts'
import { waitUntil } from '../support/waiting.ts'

const freshName = freshNames(temporaryDirectory())
const mac = 'dc:a6:32:01:02:03'
const folder = '/nix/var/netimage/publish'
const { toplevel, files } = systemOf('published')

/**
 * @param onLook called after the server has looked at the life of the machine
 * @param image what the machine boots at first
 * @param state the state directory
 * @param ephemeral whether the layer of the machine is reset at each boot
 * @param owns whether the process serves a machine
 */
async function start(
  onLook: (state: string) => void = () => {},
  image: Partial<Candidate> = {},
  state = freshName(),
  ephemeral = false,
  owns?: (machine: string) => boolean,
) {
  const site = openSite({ state, at: 0, onTold: () => {}, onError: assert.ifError })
  const root = makeRoot(freshName())
  const { fileSystem } = root
  plantAll(fileSystem, files)
  const answer = plant(fileSystem, `${folder}/answer`, { file: '' })
  await site.beginAttempt(mac, 0, { byDefault: candidate('image', image) })
  const errors: Error[] = []
  const system = { publishImage: imageIn(freshName(), {}) }
  const publishing = startPublishing({
    ...{ state, ephemeral, owns },
    site: {
      assign: (machine, own, at, by) => site.assign(machine, own, at, by),
      note: (noted) => site.note(noted),
      groupThatRefuses: (machine) => site.groupThatRefuses(machine),
      lifeOf(machine) {
        const life = site.lifeOf(machine)
        onLook(state)
        return life
      },
    },
    systems: { openImage: () => Promise.resolve(plainSystem('image')) },
    machines: { rootOf: () => ({ fileSystem, system }) },
    onError: (error) => errors.push(error),
  })
  const read = () => {
    const bytes = Buffer.alloc(fileSystem.attributes(answer).size)
    return bytes.toString('utf8', 0, fileSystem.read(answer, 0, bytes))
  }
  return {
    ...{ state, site },
    /** @param expected the errors that the server may tell */
    async publish(id: string, expected = /^$/): Promise<string> {
      const text = JSON.stringify({ version: 1, id, toplevel })
      plant(fileSystem, `${folder}/request`, { file: text })
      publishing.notice(mac)
      const isFinal = new RegExp(`^id ${id}\nstatus (?!working)`)
      await waitUntil(`the answer to ${id}`, () => {
        // An error may be the reason why no answer comes.
        for (const { message } of errors) assert.match(message, expected)
        return isFinal.test(read())
      })
      return read()
    },
    async [Symbol.asyncDispose]() {
      await publishing.close()
      site.close(0)
      await root.close()
    },
  }
}

function say(state: string, number: number, verdict: 'good' | 'bad'): void {
  const database = openSiteDatabase(state)
  database.change((writer) => {
    writer.keep(decide(writer.of(mac), number, verdict)?.life ?? assert.fail())
  })
  database.close()
}

const refusal = new RegExp(
  `^id \\w+\nstatus refused\n.*bad on this machine as generation 2.*\nsay .*site good ${mac} 2\\b`,
)

test('a published system is a generation, and is refused after it was bad, until a person says good', async () => {
  await using world = await start()
  assert.match(await world.publish('first'), /status published\n.*\nsay .* generation 2 .*\n/)
  assert.match(await world.publish('again'), /status published\n.*\nsay .* generation 2 .*\n/)
  say(world.state, 2, 'bad')
  assert.match(await world.publish('bad'), refusal)
  say(world.state, 2, 'good')
  assert.match(await world.publish('good'), /status published\n/)
})

test('the log of the site has what a machine published, and what was refused', async () => {
  await using world = await start()
  const newest = () => {
    const reader = openSiteToRead(world.state)
    const row = reader?.log({ newest: 1 }).rows[0]
    reader?.close()
    return row && 'entry' in row ? { who: row.who, machine: row.machine, ...row.entry } : undefined
  }
  const who = { kind: 'machine' }
  await world.publish('first')
  const published = { kind: 'published', generation: 2, result: 'new', before: 1 } as const
  assert.partialDeepStrictEqual(newest(), { who, machine: mac, ...published, toplevel })
  say(world.state, 2, 'bad')
  await world.publish('bad')
  const reason = 'it was bad on this machine as generation 2 (a person said so)'
  assert.deepEqual(newest(), { who, machine: mac, kind: 'refused', toplevel, reason })
})

// nixos-rebuild would activate a system that the machine does not boot next.
test('a published system is refused if a person says bad while its boot files are made', async () => {
  let isArmed = false
  await using world = await start((state) => {
    if (isArmed) say(state, 2, 'bad')
    isArmed = false
  })
  await world.publish('first')
  isArmed = true
  assert.match(await world.publish('second'), refusal)
  assert.equal(world.site.lifeOf(mac).current, 2)
  const published = publishedOf(world.state, mac)
  assert.ok(existsSync(published))
  assert.equal(readdirSync(published).length, 1)
})

test('nixos-rebuild makes no generation of the system that the image of the machine has', async () => {
  await using world = await start(() => {}, { toplevel })
  const before = world.site.lifeOf(mac)
  assert.match(
    await world.publish('same'),
    /status published\n.*generation 1 of this machine\..*\n.*boots it already/,
  )
  assert.deepEqual(world.site.lifeOf(mac), before)
  assert.ok(!existsSync(publishedOf(world.state, mac)))
})

// Signed boot files, for example, cannot be made for a system that a machine publishes.
test('nixos-rebuild back to the system of the last good image makes no boot files', async () => {
  await using world = await start(() => {}, { toplevel })
  say(world.state, 1, 'good')
  await world.site.assign(mac, candidate('other image'), 0, 'person')
  assert.match(
    await world.publish('back'),
    /status published\n.*generation 1 of this machine\..*\n.*boots it next: it was good before/,
  )
  assert.equal(world.site.lifeOf(mac).current, 1)
  assert.ok(!existsSync(publishedOf(world.state, mac)))
})

test('nixos-rebuild is refused if the layer of the machine is reset at each boot', async () => {
  await using world = await start(() => {}, {}, freshName(), true)
  assert.match(
    await world.publish('built'),
    /status refused\n.*serve --ephemeral.*\nsay Build an image/,
  )
  assert.equal(world.site.lifeOf(mac).generations.length, 1)
  await using other = await start(() => {}, { toplevel }, freshName(), true)
  assert.match(await other.publish('same'), /status published\n.*\n.*boots it already/)
})

test('nixos-rebuild does not bring back the system of an image that was bad', async () => {
  await using world = await start()
  const image = candidate('bad image', { toplevel })
  await world.site.assign(mac, image, 0, 'person')
  say(world.state, 2, 'bad')
  assert.match(await world.publish('bad'), refusal)
  say(world.state, 2, 'good')
  assert.match(await world.publish('good'), /status published\n/)
})

for (const [what, damage] of [
  ['document is empty', (place: string) => truncateSync(join(place, 'system.json'))],
  ['document is gone', (place: string) => rmSync(join(place, 'system.json'))],
  ['boot files are gone', (place: string) => rmSync(join(place, 'boot'), { recursive: true })],
] as const) {
  test(`nixos-rebuild mends a published system whose ${what}`, async () => {
    await using world = await start()
    await world.publish('first')
    const directory = publishedOf(world.state, mac)
    const [id = ''] = readdirSync(directory)
    const place = join(directory, id)
    const whole = describeTree(place, { times: false })
    damage(place)
    assert.match(await world.publish('again'), /status published\n.*\nsay .* generation 2 .*\n/)
    assertSameLines(describeTree(place, { times: false }), whole)
    assert.deepEqual(readdirSync(directory), [id])
  })
}

test('what a killed server left unfinished is removed when the next server starts', async () => {
  const state = freshName()
  const others = 'dc:a6:32:0a:0a:0a'
  const unfinishedOf = (machine: string) => join(publishedOf(state, machine), 'unfinished')
  const whole = join(publishedOf(state, mac), 'whole')
  for (const directory of [unfinishedOf(mac), unfinishedOf(others)])
    mkdirSync(join(directory, 'staged'), { recursive: true })
  mkdirSync(whole)
  // Another process of the server may be making the files of the other machine.
  const owns = (machine: string) => machine === mac
  await using world = await start(() => {}, {}, state, false, owns)
  assert.equal(world.state, state)
  const left = [unfinishedOf(mac), unfinishedOf(others), whole].map((each) => existsSync(each))
  assert.deepEqual(left, [false, true, true])
})

test('a published system is refused if the group of the machine says so, until it says something else', async () => {
  await using world = await start()
  const apply = (rebuild: 'allow' | 'refuse') => {
    const database = openSiteDatabase(world.state)
    database.change((writer) => {
      writer.rollouts.setGroups(new Map([[mac, group]]))
      beginRollout(writer, settings([[mac]], { rebuild }), new Map(), { at: 0, uptime: 0 })
    })
    database.close()
  }
  apply('refuse')
  assert.match(await world.publish('first'), /status refused\n.*group lab.*rebuild = "refuse"/)
  assert.deepEqual(readdirSync(world.state).includes('published'), false)
  const database = new DatabaseSync(siteFile(world.state))
  database.exec("UPDATE rollouts SET rollout = '{'")
  database.close()
  const broken = /^a row of roll-out 1 of lab in .* is broken/
  const answer = await world.publish('second', broken)
  assert.match(answer, /status refused\n.*an error on the server\.\nsay Read the reason in the log/)
  apply('allow')
  assert.match(await world.publish('third', broken), /status published\n/)
})
