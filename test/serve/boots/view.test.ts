// What a person sees on a terminal.

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { table } from '../../../src/commands/show-boots.ts'
import type { Boot } from '../../../src/serve/boots/follow.ts'

const start = 1_000_000
const boot = (machine: string, changes: Partial<Boot> = {}): Boot => ({
  machine,
  address: '10.0.0.100',
  started: start,
  step: 'kernel',
  steps: { dhcp: start, kernel: start + 2000 },
  lastSign: start + 2000,
  bytes: 15 << 20,
  ...changes,
})

suite('the table of boots', () => {
  test('waits where nobody has asked yet', () => {
    assert.deepEqual(table([], start, 80), ['waiting for machines…'])
  })

  test('has a line for each machine, with the step and the time in it', () => {
    const up = boot('52:54:00:00:00:02', {
      step: 'registered',
      steps: { dhcp: start, registered: start + 20_000 },
      started: start + 1,
    })
    const lines = table([up, boot('52:54:00:00:00:01')], start + 5000, 120)
    assert.equal(lines.length, 3)
    assert.match(lines[1] ?? '', /^52:54:00:00:00:01 +10\.0\.0\.100 +kernel +3\.0 s +15\.0 MiB$/)
    assert.match(lines[2] ?? '', /registered .* up 20 s after power-on$/)
  })

  test('says what was expected where a boot stands still, and what is likely wrong', () => {
    const lines = table([boot('52:54:00:00:00:01')], start + 120_000, 200)
    assert.match(lines[2] ?? '', /expected next: the loader asks for the initrd; likely: .+; or /)
    assert.match(lines[3] ?? '', /docs\/troubleshooting\.md, “after kernel”/)
  })

  test('is never wider than the terminal', () => {
    const long = boot('52:54:00:00:00:01', { trouble: 'x'.repeat(500) })
    for (const width of [20, 40, 80, 300]) {
      for (const line of table([long], start + 120_000, width))
        assert.ok(line.length < Math.max(width, 21))
    }
  })
})
