// What the page tells of a site: the same as the commands, and as it changes.

import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import * as v from 'valibot'
import { siteFile } from '../../src/site/database.ts'
import { serveRollouts } from '../commands/support/rollout-server.ts'
import { begunRollout } from '../serve/support/begun-rollout.ts'
import { netimageJson } from '../support/netimage.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { waitUntil } from '../support/waiting.ts'
import { bootOf, record } from './support/boots.ts'
import { watchEvents } from './support/events.ts'
import { listOf, openPage } from './support/open-page.ts'

const freshName = freshNames(temporaryDirectory())
const [mac, other, third] = ['dc:a6:32:01:02:03', 'dc:a6:32:01:02:04', 'dc:a6:32:01:02:05']
const object = v.record(v.string(), v.unknown())

suite('the data of the page', () => {
  test('are those of the commands, for machines, groups, boots and the log', async (context) => {
    const state = await begunRollout(freshName(), [mac, other])
    await netimageJson(['site', 'name', mac, 'pi1', '--state', state])
    await netimageJson(['site', 'hold', other, '--state', state])
    const boot = bootOf(mac)
    const event = { kind: 'root', step: 'registered', mac } as const
    record(state, [
      [bootOf(mac, { started: boot.started - 60_000 }), event],
      [boot, event, event],
    ])
    const { json, ask } = await openPage(context, state, () => [boot])
    const command = (...args: string[]) => netimageJson([...args, '--state', state])

    const { machines } = await command('site', 'status')
    assert.partialDeepStrictEqual(await json('/api/machines'), { machines })
    const [first] = listOf(await json('/api/machines'), 'machines')
    assert.deepEqual(first?.['boot'], boot)
    assert.deepEqual(listOf(await json(`/api/machines?machine=${other}`), 'machines').length, 1)

    const shown = await command('site', 'status', 'pi1')
    for (const name of [mac, 'pi1', 'DC-A6-32-01-02-03']) {
      assert.partialDeepStrictEqual([await json(`/api/machines/${name}`)], shown['machines'])
    }
    const { groups } = await command('site', 'status', 'lab')
    assert.partialDeepStrictEqual(await json('/api/groups'), { groups })
    assert.partialDeepStrictEqual([await json('/api/groups/lab')], groups)
    const { usualBoot } = v.parse(object, await json('/api/groups/lab'))
    assert.deepEqual(usualBoot, { boots: 1, steps: { dhcp: 0, kernel: 1000, registered: 9000 } })

    assert.deepEqual(await json('/api/boots'), await command('boots'))
    const ofOne = await json('/api/machines/pi1/boots')
    assert.deepEqual(ofOne, await command('boots', 'pi1'))
    const { events } = v.parse(object, ofOne)
    const newest = await json('/api/machines/pi1/boots?number=1')
    assert.deepEqual(newest, { boots: [boot], events })
    assert.deepEqual(await json(`/api/machines/${mac}/boots/${boot.started}`), { boot, events })

    const rows = listOf(await json('/api/log'), 'rows')
    assert.deepEqual(rows.map(({ says }) => says).slice(-2), [
      'gave it the name pi1',
      'held it: roll-outs leave it out',
    ])
    const { last } = v.parse(v.object({ last: v.number() }), await json('/api/log?number=1'))
    assert.deepEqual(await json(`/api/log?after=${last}`), { rows: [], last })

    const missing = [
      ...['/api', '/api/', '/api/nothing', '/api/machines/pi9', '/api/machines/pi1/nothing'],
      ...[`/api/machines/${mac}/boots/1`, '/api/groups/nothing', '/api/log/1', '/nothing'],
      ...['/api/machines/02:00:00:00:00:01', '/assets', '/index.html/'],
    ]
    for (const path of missing) assert.equal((await ask(path)).status, 404, path)
    const wrong = {
      ...{ 'number=0': 'number must be a whole number from 1 to 500' },
      ...{ 'number=501': 'number must be', 'since=1&number=x': 'number must be' },
      ...{ 'after=-1': 'after must be a whole number from 0', 'number=': 'number must be' },
      'nothing=1': 'this path does not take nothing, but only number, machine, since, after',
    }
    for (const [query, says] of Object.entries(wrong)) {
      const { status, body } = await ask(`/api/log?${query}`)
      assert.equal(status, 400, query)
      assert.ok(body.includes(says), body)
    }
  })

  test('are there before the site is', async (context) => {
    const state = join(freshName(), 'later')
    const { json, ask } = await openPage(context, state)
    assert.deepEqual(await json('/api/machines'), { machines: [], others: [], broken: [] })
    assert.deepEqual(await json('/api/groups'), { groups: [], broken: [] })
    assert.deepEqual(await json('/api/log'), { rows: [], last: 0 })
    assert.deepEqual(await json('/api/boots'), { boots: [] })
    assert.deepEqual(await json('/api/images'), { images: [], broken: [] })
    // The server has only begun to make it.
    mkdirSync(state, { recursive: true })
    writeFileSync(siteFile(state), '')
    assert.deepEqual(await json('/api/log'), { rows: [], last: 0 })
    await waitUntil('the page has looked again', async () => {
      return (await ask('/metrics')).body.includes('\nnetimage_site_readable 1\n')
    })
  })

  test('show a machine that only asks apart, and tell what a boot that hangs waits for', async (context) => {
    const state = await begunRollout(freshName(), [mac, third])
    const stranger = bootOf(other, { step: 'dhcp', steps: { dhcp: 1 } })
    const started = Date.now() - 600_000
    const trouble = 'x.img: there is no such file'
    const hanging = bootOf(mac, {
      started,
      step: 'kernel',
      steps: { kernel: started },
      lastSign: started,
      trouble,
    })
    // It comes up, although it has asked for a file that is not there.
    const comesUp = bootOf(third, { trouble })
    const { json, ask } = await openPage(context, state, () => [stranger, hanging, comesUp])
    const answer = await json('/api/machines')
    assert.deepEqual(listOf(answer, 'others'), [stranger])
    const [shown, up] = listOf(answer, 'machines')
    assert.equal(v.parse(object, shown?.['overdue'])['next'], 'the loader asks for the initrd')
    const [alarm, ...more] = v.parse(v.array(v.string()), shown?.['alarms'])
    assert.match(alarm ?? '', /gives no sign.*the loader asks for the initrd.*no such file$/)
    assert.deepEqual([more, up?.['machine'], up?.['alarms']], [[], third, []])
    const { body } = await ask('/metrics')
    for (const [machine, count] of [
      [mac, 1],
      [third, 0],
    ] as const)
      assert.match(body, new RegExp(`^netimage_machine_alarms.*${machine}.* ${count}$`, 'm'))
  })

  test('have what machines say as text, whatever it is', async (context) => {
    const state = await begunRollout(freshName(), [mac])
    const hostile = '\u001b[2J\u0000\n\r\u202e\u2028</script><img src=x onerror=alert(1)>"\\\ud800'
    const boot = bootOf(mac, { trouble: hostile, address: hostile })
    const file = { kind: 'tftp', step: 'missing', file: hostile, bytes: 0, mac } as const
    const asked = {
      kind: 'dhcp',
      step: 'discover',
      proxy: true,
      vendorClass: hostile,
      mac,
    } as const
    record(state, [[boot, file, asked]])
    const { ask } = await openPage(context, state, () => [boot, bootOf(hostile)])
    for (const path of ['/api/machines', `/api/machines/${mac}/boots`, '/api/boots', '/metrics']) {
      const { headers, body } = await ask(path)
      assert.doesNotMatch(body, /[\p{Bidi_Control}\u2028]|[^\n\P{Cc}]/u, path)
      assert.match(String(headers['content-type']), /^(application\/json|text\/plain)/)
      assert.equal(headers['x-content-type-options'], 'nosniff')
      if (path !== '/metrics') assert.ok(body.includes('onerror=alert(1)'), path)
    }
    const { body } = await ask('/api/machines')
    assert.deepEqual(listOf(JSON.parse(body), 'machines')[0]?.['boot'], boot)
    const script = await ask(`/api/machines/${encodeURIComponent('<script>alert(1)</script>')}`)
    assert.deepEqual([script.status, script.headers['content-type']], [404, 'application/json'])
  })

  test('tell a browser what has changed: a command, a boot, and a roll-out that halts', async (context) => {
    const state = await begunRollout(freshName(), [mac, other])
    const boots = [bootOf(mac)]
    const { url, json } = await openPage(context, state, () => boots)
    const events = await watchEvents(context, new URL('/api/events', url))
    await events.until('hello', () => true)
    // What it has read first is new, too.
    await json('/api/machines')
    await events.until('changed', ({ log }) => log !== undefined)
    await netimageJson(['site', 'name', mac, 'pi1', '--state', state])
    await events.until('changed', ({ machines, log }) => isIn(machines, mac) && log !== undefined)
    const [first] = listOf(await json('/api/machines'), 'machines')
    assert.equal(first?.['name'], 'pi1')

    boots.push(bootOf(other))
    await events.until('changed', ({ machines, groups }) => {
      return isIn(machines, other) && isIn(groups, 'lab')
    })
    const lab = v.parse(object, await json('/api/groups/lab'))
    assert.partialDeepStrictEqual(lab, { usualBoot: { boots: 2 } })

    const server = await serveRollouts(context, state)
    await server.boot(mac, 'bad')
    await waitUntil('the page shows the halt', async () => {
      await events.until('changed', ({ groups }) => isIn(groups, 'lab'))
      const [lab] = listOf(await json('/api/groups'), 'groups')
      return lab?.['state'] === 'halted' && /is bad/.test(String(lab['reason']))
    })
  })

  test('are told to a limited number of browsers, and again when one has gone', async (context) => {
    const { url, ask } = await openPage(context, freshName())
    const at = new URL('/api/events', url)
    const all = []
    for (let count = 0; count < 32; count++) all.push(await watchEvents(context, at))
    const { status, headers, body } = await ask('/api/events')
    assert.deepEqual([status, headers['retry-after']], [503, '1'])
    assert.match(body, /"too-many-listeners","message":"32 clients listen already\."/)
    all[0]?.close()
    await waitUntil('there is room again', async () => {
      const again = await watchEvents(context, at)
      return again.status === 200
    })
  })
})

function isIn(list: unknown, name: string): boolean {
  return Array.isArray(list) && list.includes(name)
}
