// What a machine boots if the system that it published is gone, and no generation is good.

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { bind, restart } from '../../../src/site/life/begin.ts'
import { assign, decide, findKnown } from '../../../src/site/life/choose.ts'
import {
  defaultPolicy,
  newLife,
  runningAttempt,
  type Candidate,
  type Changed,
  type Life,
} from '../../../src/site/life/life.ts'
import { statusOf } from '../../../src/site/status.ts'
import { assignAllowed, candidate } from './support/simulate.ts'

const now = { at: 0, uptime: 0 }
const own = candidate('a', { toplevel: '/nix/store/own', published: 'f00' })

/** The machine has booted the image, and boots its own system next. */
function published(): Life {
  const byDefault = candidate('a')
  const { life } = bind(newLife('m'), now, defaultPolicy, { byDefault })
  return assignAllowed(life, own, now, 'machine').life
}

function startsWithoutIt(life: Life, byDefault?: Candidate): Changed {
  const ended = restart(life, now, defaultPolicy).life
  return bind(ended, now, defaultPolicy, { byDefault, gone: new Set([2]) })
}

function bootsOf({ life, told }: Changed): [image: string | undefined, ...told: string[]] {
  const attempt = runningAttempt(life)
  const booted = life.generations.find(({ number }) => number === attempt?.generation)
  return [booted?.image, ...told.map(({ kind, generation }) => `${generation} ${kind}`)]
}

suite('a machine whose published system is gone', () => {
  const bad = (life: Life) => decide(life, 1, 'bad')?.life ?? assert.fail()

  test('boots the image below the system, in trial', () => {
    assert.deepEqual(bootsOf(startsWithoutIt(published(), candidate('b'))), ['a', '2 bad'])
  })

  test('boots the default of the server if that image was bad', () => {
    const changed = startsWithoutIt(bad(published()), candidate('b'))
    assert.deepEqual(bootsOf(changed), ['b', '2 bad'])
  })

  test('boots the image although it was bad if there is nothing else', () => {
    for (const byDefault of [undefined, candidate('a')]) {
      assert.deepEqual(bootsOf(startsWithoutIt(bad(published()), byDefault)), ['a', '2 bad'])
    }
  })

  test('boots nothing if the site has forgotten that image, until there is a default', () => {
    const life = published()
    const forgotten = { ...life, generations: life.generations.slice(1) }
    const nothing = startsWithoutIt(forgotten)
    assert.deepEqual(bootsOf(nothing), [undefined, '2 bad'])
    assert.equal(statusOf(nothing.life, undefined, 0).next, undefined)
    assert.deepEqual(bootsOf(startsWithoutIt(nothing.life, candidate('b'))), ['b'])
  })

  test('can publish the system again, unless it was bad before', () => {
    const { life } = startsWithoutIt(published())
    assert.equal(findKnown(life, { toplevel: own.toplevel }), undefined)
    assert.ok(
      'generation' in assign(life, candidate('c', { toplevel: own.toplevel }), now, 'person'),
    )
    const wasBad = decide(published(), 2, 'bad')?.life ?? assert.fail()
    assert.equal(wasBad.current, 2)
    const known = findKnown(startsWithoutIt(wasBad).life, { toplevel: own.toplevel })
    assert.ok(known && 'refused' in known)
  })

  test('boots the system if a person says that it is good, and it is there', () => {
    const { life } = startsWithoutIt(published())
    const good = decide(life, 2, 'good')?.life ?? assert.fail()
    assert.deepEqual(bootsOf(bind(good, now, defaultPolicy)), ['a'])
    assert.equal(good.generations[1]?.isGone, undefined)
  })
})
