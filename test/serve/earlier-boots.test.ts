import assert from 'node:assert/strict'
import { test } from 'node:test'
import { followBoots, type Boot } from '../../src/boots/follow.ts'
import { earlierBoots } from '../../src/serve/earlier-boots.ts'

const address = '10.0.0.7'
const recorded: Boot = {
  ...{ machine: address, started: 1000, step: 'registered', steps: { registered: 9000 } },
  ...{ lastSign: 9000, bytes: 0 },
}
const [later, now] = [500_000, 503_000]
const parts = { 'boot.ipxe': 'loader', kernel: 'kernel', initrd: 'initrd' } as const

/** When the boot began that the server counts a request of the machine to. */
function startOf(file: keyof typeof parts, boots: readonly Boot[]): number {
  const follower = followBoots({
    partOf: (_machine, name) => (name === file ? parts[file] : undefined),
    nameOf: (ip) => ip,
    isServed: () => true,
    isRoot: () => true,
    earlierBoots: boots,
  })
  return follower.bootOf({ kind: 'http', step: 'begin', file, bytes: 0, address }, now).started
}

test('an attempt goes on, even if the record lost its boot when the server was killed', () => {
  const attempt = { startedAt: later, step: 'kernel' } as const
  for (const boots of [[recorded], []]) {
    const known = earlierBoots(boots, new Map([[address, attempt]]))
    assert.equal(startOf('initrd', known), later)
    assert.equal(known.length, 1)
  }
  const [made] = earlierBoots([recorded], new Map([[address, { startedAt: later }]]))
  assert.ok(made)
  assert.equal(startOf('kernel', [made]), later)
})

test('a boot in the record stays if its attempt has not begun later', () => {
  const other: Boot = { ...recorded, machine: '10.0.0.8', started: 2000 }
  const attempt = { startedAt: 1000, step: 'init' } as const
  const boots = [other, recorded]
  assert.deepEqual(earlierBoots(boots, new Map([[address, attempt]])), boots)
  assert.equal(startOf('boot.ipxe', boots), now)
})
