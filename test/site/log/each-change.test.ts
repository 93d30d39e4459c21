// The log of a site has one row for each change, and none without one.

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { openSiteToRead } from '../../../src/site/database.ts'
import type { Told } from '../../../src/site/life/life.ts'
import { openSite } from '../../../src/site/site.ts'
import { freshNames, temporaryDirectory } from '../../support/temporary.ts'
import { candidate, minutes } from '../life/support/simulate.ts'

const freshName = freshNames(temporaryDirectory())
const start = 1_700_000_000_000
const machines = ['02:00:00:00:00:01', '02:00:00:00:00:02', '02:00:00:00:00:03'] as const

type Step =
  | { do: 'begin'; machine: string; image: string; isGone: boolean }
  | { do: 'asks' | 'blesses'; machine: string }
  | { do: 'publish'; machine: string; image: string }
  | { do: 'wait'; minutes: number }
  | { do: 'restart' }

const machine = fc.constantFrom(...machines)
const image = fc.constantFrom('a', 'b', 'c')
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant('begin'), machine, image, isGone: fc.boolean() }),
  fc.record({ do: fc.constantFrom('asks', 'blesses'), machine }),
  fc.record({ do: fc.constant('publish'), machine, image }),
  fc.record({ do: fc.constant('wait'), minutes: fc.constantFrom(1, 3, 15) }),
  fc.record({ do: fc.constant('restart') }),
)

interface Seen {
  rows: { kind: string; machine: string; generation: number }[]
  /** What a machine is given to boot and what came of it, by machine. */
  lives: Map<string, string>
}

function look(state: string): Seen {
  const reader = openSiteToRead(state) ?? assert.fail('there is no site')
  try {
    const rows = reader.log({}).rows.map((row) => {
      assert.ok('entry' in row && row.machine !== undefined && 'generation' in row.entry)
      const { kind, generation } = row.entry
      return { kind, generation, machine: row.machine }
    })
    const lives = reader.lives(assert.fail).map((life) => {
      const { machine, current, generations, attempts } = life
      const verdicts = generations.map(({ number, verdict }) => [number, verdict])
      const lost = attempts.filter(({ outcome }) => outcome === 'failed' || outcome === 'void')
      const counts = lost.map(({ number, outcome }) => [number, outcome])
      return [machine, JSON.stringify([current, verdicts, counts])] as const
    })
    return { rows, lives: new Map(lives) }
  } finally {
    reader.close()
  }
}

suite('the log of a site', () => {
  test('has one row for each change of a server, whatever machines do', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 25 }), async (steps) => {
        const state = freshName()
        let at = start
        let boots = 0
        const told: Told[] = []
        const open = () =>
          openSite({ state, at, onTold: (each) => told.push(each), onError: assert.ifError })
        let site = open()
        let before = look(state)
        for (const each of steps) {
          at += 1000
          let given: { kind: string; generation: number } | undefined
          told.length = 0
          switch (each.do) {
            case 'begin': {
              const numbers = site.lifeOf(each.machine).generations.map(({ number }) => number)
              const gone = new Set(each.isGone ? numbers.slice(-1) : [])
              const byDefault = candidate(each.image)
              await site.beginAttempt(each.machine, at, { byDefault, gone })
              break
            }
            case 'asks':
              site.sign(each.machine, { kind: 'asks' }, at)
              break
            case 'blesses': {
              const toplevel = site.currentAttempt(each.machine)?.generation.toplevel ?? ''
              const bootId = `boot ${++boots}`
              site.sign(each.machine, { kind: 'bless', bootId, toplevel }, at)
              break
            }
            case 'publish': {
              const own = candidate(each.image, { published: each.image })
              const assigned = await site.assign(each.machine, own, at, 'machine')
              const isChange = !('refused' in assigned) && assigned.result !== 'same'
              if (isChange) given = { kind: 'published', generation: assigned.generation.number }
              break
            }
            case 'wait':
              for (const end = at + each.minutes * minutes; at < end; at += minutes / 2)
                site.tick(at)
              break
            case 'restart':
              site.close(at)
              site = open()
          }
          site.tick(at)
          const after = look(state)
          const rows = after.rows.slice(before.rows.length)
          const ofServer = rows.filter(({ kind }) => kind !== 'assigned' && kind !== 'published')
          assert.deepEqual(
            ofServer,
            told.map(({ kind, generation, machine }) => ({ kind, generation, machine })),
          )
          const publications = rows.filter(({ kind }) => kind === 'published')
          assert.deepEqual(
            publications.map(({ kind, generation }) => ({ kind, generation })),
            given ? [given] : [],
          )
          const isOther = (name: string) => after.lives.get(name) !== before.lives.get(name)
          for (const name of machines.filter((name) => isOther(name))) {
            assert.ok(
              rows.some((row) => row.machine === name),
              `${name} has changed by ${JSON.stringify(each)}`,
            )
          }
          before = after
        }
        site.close(at)
      }),
      { numRuns: 40 },
    )
  })
})
