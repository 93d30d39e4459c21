// The metrics, as Prometheus reads them, and what docs/monitoring makes of them.

import assert from 'node:assert/strict'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, suite, test } from 'node:test'
import * as v from 'valibot'
import { createCounts } from '../../src/page/metrics/counts.ts'
import { metricText } from '../../src/page/metrics/text.ts'
import type { ServeEvent } from '../../src/protocols/event.ts'
import type { Told, Why } from '../../src/site/life/life.ts'
import { openSiteDatabase, siteFile } from '../../src/site/database.ts'
import { decide } from '../../src/site/life/choose.ts'
import { stepRollouts } from '../../src/site/rollout/rollouts.ts'
import { begunRollout } from '../serve/support/begun-rollout.ts'
import { repository } from '../support/netimage.ts'
import { filterThrough } from '../support/programs.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { waitUntil } from '../support/waiting.ts'
import { bootOf } from './support/boots.ts'
import { openPage } from './support/open-page.ts'

const freshName = freshNames(temporaryDirectory())
const [mac, other] = ['dc:a6:32:01:02:03', 'dc:a6:32:01:02:04']
const monitoring = join(repository, 'docs/monitoring')

/** @throws with what promtool says, if it finds something */
async function promtool(args: readonly string[], input = ''): Promise<void> {
  await filterThrough('promtool', args, { input: Buffer.from(input) })
}

/** The samples by name and labels. */
function samplesIn(metrics: string): Map<string, number> {
  const lines = metrics.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return new Map(
    lines.map((line) => {
      const [, sample = '', value] = /^(.*) (\S+)$/.exec(line) ?? []
      return [sample, Number(value)]
    }),
  )
}

const panelsSchema = v.object({
  uid: v.string(),
  panels: v.array(
    v.object({
      title: v.string(),
      type: v.string(),
      gridPos: v.object({ x: v.number(), y: v.number(), w: v.number(), h: v.number() }),
      targets: v.pipe(v.array(v.object({ expr: v.string() })), v.minLength(1)),
    }),
  ),
})

function expressionsIn(dashboard: unknown): string[] {
  const { panels } = v.parse(panelsSchema, dashboard)
  return panels.flatMap(({ targets }) => targets.map(({ expr }) => expr))
}

suite('the metrics', () => {
  test('are what Prometheus takes, and count what the server sees', async (context) => {
    const state = await begunRollout(freshName(), [mac, other])
    const boot = bootOf(mac)
    const { ask, see, told } = await openPage(context, state, () => [boot])
    let shown = ''
    const metrics = async () => {
      const { status, headers, body } = await ask('/metrics')
      assert.deepEqual([status, headers['cache-control']], [200, 'no-store'])
      assert.equal(headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8')
      return samplesIn((shown = body))
    }
    const empty = await metrics()
    assert.equal(empty.get('netimage_boots_total{group="lab",result="up"}'), 0)
    assert.equal(empty.get('netimage_rollbacks_total{group="lab",reason="too-late"}'), 0)

    const event = { kind: 'root', step: 'registered', mac } as const
    const file = { kind: 'tftp', step: 'end', file: 'kernel', bytes: 1000, mac } as const
    const events: ServeEvent[] = [
      ...[event, file, file, { ...file, kind: 'http', step: 'fail', bytes: 5 } as const],
      { kind: 'dhcp', step: 'discover', proxy: true, mac },
    ]
    // Each event comes with the whole boot.
    for (const each of events) see(boot, each)
    see(bootOf(mac, { started: boot.started - 1_000_000 }), event)
    see(bootOf(other, { started: 1, steps: { registered: 1 } }), event)
    const ends: Omit<Told, 'machine' | 'generation'>[] = [
      { kind: 'attempt failed', why: 'started-again' },
      { kind: 'bad', why: 'started-again' },
      { kind: 'attempt void' },
    ]
    for (const each of ends) told({ ...each, machine: mac, generation: 2 })

    await waitUntil('the layers are measured', async () => {
      return (await metrics()).has(`netimage_layer_bytes{machine="${mac}",name="",group="lab"}`)
    })
    const samples = await metrics()
    const expected: [string, number][] = [
      ['netimage_boots_total{group="lab",result="up"}', 2],
      // Perhaps it turns out that the power was cut.
      ['netimage_boots_total{group="lab",result="failed"}', 0],
      ['netimage_boots_total{group="lab",result="void"}', 1],
      ['netimage_rollbacks_total{group="lab",reason="started-again"}', 0],
      ['netimage_boot_seconds_count{step="registered"}', 2],
      ['netimage_boot_seconds_bucket{step="registered",le="5"}', 0],
      ['netimage_boot_seconds_bucket{step="registered",le="10"}', 1],
      ['netimage_boot_seconds_bucket{step="registered",le="+Inf"}', 2],
      ['netimage_tftp_bytes_total', 2000],
      ['netimage_http_bytes_total', 5],
      ['netimage_nfs_requests_total{procedure="READ"}', 7],
      ['netimage_dhcp_packets_total{op="received",type="discover"}', 1],
      ['netimage_machines{group="lab",state="up"}', 2],
      ['netimage_machines{group="lab",state="failed"}', 0],
      ['netimage_rollout_halted{group="lab",rollout="1"}', 0],
      ['netimage_rollout_machines{group="lab",rollout="1",wave="1",state="pending"}', 2],
      [`netimage_machine_overdue{machine="${mac}",name="",group="lab"}`, 0],
    ]
    for (const [name, value] of expected) assert.equal(samples.get(name), value, name)
    const size = samples.get('netimage_disk_size_bytes') ?? 0
    const available = samples.get('netimage_disk_available_bytes') ?? 0
    assert.ok(size > available && available > 0)
    await promtool(['check', 'metrics'], shown)
  })

  test('say that a roll-out has halted', async (context) => {
    const state = await begunRollout(freshName(), [mac, other])
    const database = openSiteDatabase(state)
    const step = () =>
      database.change((writer) => {
        const now = { at: 0, uptime: writer.uptime() }
        stepRollouts(writer, now, assert.ifError)
      })
    step()
    database.change((writer) => {
      writer.keep(decide(writer.of(mac), undefined, 'bad')?.life ?? assert.fail())
    })
    step()
    database.close()
    const { ask } = await openPage(context, state)
    const samples = samplesIn((await ask('/metrics')).body)
    assert.equal(samples.get('netimage_rollout_halted{group="lab",rollout="1"}'), 1)
  })

  test('count failures and rollbacks after a minute, and none of a power cut', () => {
    let now = 0
    const { told, metrics } = createCounts(
      () => ({}),
      () => now,
    )
    const groups = new Map([[mac, 'lab']])
    const counted = () => {
      const samples = samplesIn(metrics(groups).map(metricText).join(''))
      return [
        'result="failed"',
        'result="void"',
        'reason="started-again"',
        'reason="too-late"',
      ].map((label) =>
        ['boots', 'rollbacks']
          .map((name) => samples.get(`netimage_${name}_total{group="lab",${label}}`))
          .find((value) => value !== undefined),
      )
    }
    const [again, cut] = ['started-again', 'power-cut'] as const
    const tell = (...all: [Told['kind'], Why?][]) => {
      for (const [kind, why] of all) {
        told({ machine: mac, generation: 2, kind, ...(why && { why }) })
      }
    }
    tell(['attempt failed', again], ['bad', again])
    now += 30_000
    tell(['attempt failed', again], ['bad', again])
    tell(['attempt void', cut], ['taken back', cut])
    assert.deepEqual(counted(), [0, 1, 0, 0])
    now += 30_000
    assert.deepEqual(counted(), [1, 1, 1, 0])
    // Two between two readings are two, and a machine that has no other generation goes nowhere.
    tell(['bad', 'too-late'], ['stays'])
    for (let count = 0; count < 2; count++) tell(['bad', 'too-late'])
    now += 60_000
    assert.deepEqual(counted(), [4, 1, 1, 2])
  })

  test('say that the site cannot be read, and go on to count', async (context) => {
    const state = await begunRollout(freshName(), [mac])
    const { ask, see } = await openPage(context, state)
    const { body: before } = await ask('/metrics')
    assert.equal(samplesIn(before).get('netimage_site_readable'), 1)
    const file = siteFile(state)
    for (const ending of ['-wal', '-shm']) rmSync(`${file}${ending}`, { force: true })
    writeFileSync(file, 'this is no database')
    see(bootOf(mac), { kind: 'tftp', step: 'end', file: 'kernel', bytes: 1000, mac })
    await waitUntil('the page has looked again', async () => {
      const { status, body } = await ask('/metrics')
      const samples = samplesIn(body)
      assert.deepEqual([status, samples.get('netimage_tftp_bytes_total')], [200, 1000])
      const isLeftOut = !body.includes('netimage_machines{')
      return samples.get('netimage_site_readable') === 0 && isLeftOut
    })
    assert.equal((await ask('/api/machines')).status, 503)
  })

  test('count a boot once, also if thousands of strangers ask meanwhile', () => {
    const { see, metrics } = createCounts(() => ({}))
    const boot = bootOf(mac)
    const sign = { kind: 'root', step: 'registered', mac } as const
    see(boot, sign)
    for (let count = 0; count < 5000; count++) {
      const stranger = `02:00:00:00:${(count >> 8).toString(16)}:${(count & 255).toString(16)}`
      const asked = { kind: 'dhcp', step: 'discover', proxy: true, mac: stranger } as const
      see(bootOf(stranger, { started: 1, steps: { dhcp: 1 } }), asked)
    }
    see(boot, sign)
    const samples = samplesIn(metrics(new Map()).map(metricText).join(''))
    assert.equal(samples.get('netimage_boots_total{group="",result="up"}'), 1)
  })

  test('have labels that cannot be taken for anything else', async () => {
    const labels = { hostile: '"} 1\nnetimage_forged 2\n\\" # {{ $labels }} \u001b[2J\u202e' }
    const samples = [{ labels, value: 1 }]
    const metric = {
      name: 'netimage_machine_info',
      type: 'gauge',
      help: 'It is.',
      samples,
    } as const
    const written = metricText(metric)
    assert.equal(written.trimEnd().split('\n').length, 3)
    await promtool(['check', 'metrics'], written)
  })

  suite('docs/monitoring', () => {
    const alerts = join(monitoring, 'alerts.yaml')
    const dashboard = readFileSync(join(monitoring, 'dashboard.json'), 'utf8')
    const expressions = expressionsIn(JSON.parse(dashboard))
    const rules = freshName()

    before(() => {
      const variables = { $instance: '.*', $group: '.*' }
      const plain = expressions.map((each) =>
        Object.entries(variables).reduce((text, [name, all]) => text.replaceAll(name, all), each),
      )
      const recorded = plain.map((expr, place) => ({ record: `panel:${place}`, expr }))
      writeFileSync(rules, JSON.stringify({ groups: [{ name: 'dashboard', rules: recorded }] }))
    })

    test('has rules and expressions that Prometheus understands', async () => {
      assert.ok(expressions.length >= 15)
      await promtool(['check', 'rules', alerts, rules])
    })

    test('raises an alarm when it should, and only then', async () => {
      const cases = readFileSync(join(import.meta.dirname, 'monitoring/alert-cases.yaml'), 'utf8')
      const file = freshName()
      writeFileSync(file, cases.replace('RULES', alerts))
      await promtool(['test', 'rules', file])
    })

    test('names only metrics that there are, and all that there are', async (context) => {
      const { ask } = await openPage(context, await begunRollout(freshName(), [mac]))
      const { body: shown } = await ask('/metrics')
      const used = new Set(
        [readFileSync(alerts, 'utf8').replaceAll(/^.*(?:summary|description):.*$/gm, ''), dashboard]
          .flatMap((each) => each.match(/\bnetimage_\w+/g) ?? [])
          .map((name) => name.replace(/_(?:bucket|sum|count)$/, '')),
      )
      const there = new Set(shown.match(/(?<=^# TYPE )\w+/gm))
      assert.ok(there.size > 15)
      assert.deepEqual(
        [...used].filter((name) => !there.has(name)),
        [],
      )
      // Nobody has to guess what these are for.
      const unused = [...there].filter((name) => !used.has(name))
      assert.deepEqual(unused, ['netimage_images_bytes'])
    })
  })

  test('name the machines as targets, as far as their addresses are known', async (context) => {
    const state = await begunRollout(freshName(), [mac, other, '10.0.0.8'])
    const { json, ask } = await openPage(context, state, () => [
      bootOf(mac, { address: '10.0.0.7' }),
    ])
    const labels = (machine: string) => ({
      ...{ __meta_netimage_machine: machine, __meta_netimage_name: '' },
      ...{ __meta_netimage_group: 'lab', __meta_netimage_state: 'up' },
    })
    assert.deepEqual(await json('/api/targets'), [
      { targets: ['10.0.0.8:9100'], labels: labels('10.0.0.8') },
      { targets: ['10.0.0.7:9100'], labels: labels(mac) },
    ])
    const [first] = v.parse(
      v.array(v.object({ targets: v.array(v.string()) })),
      await json('/api/targets?port=9256'),
    )
    assert.deepEqual(first?.targets, ['10.0.0.8:9256'])
    assert.equal((await ask('/api/targets?port=0')).status, 400)
  })
})
