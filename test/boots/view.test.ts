// The table of boots on a terminal.

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { table } from '../../src/commands/show-boots.ts'
import { stallOf, type Boot } from '../../src/boots/follow.ts'

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
  test('shows that the server waits if no machine has asked yet', () => {
    assert.deepEqual(table([], start, 80), ['waiting for machines…'])
  })

  test('has a line for each machine, with its step and its time', () => {
    const up = boot('52:54:00:00:00:02', {
      step: 'registered',
      steps: { dhcp: start, registered: start + 20_000 },
      started: start + 1,
    })
    const lines = table([up, boot('52:54:00:00:00:01')], start + 5000, 120)
    assert.equal(lines.length, 3)
    assert.match(lines[1] ?? '', /^52:54:00:00:00:01 +10\.0\.0\.100 +kernel +3\.0 s +15\.0 MiB$/)
    assert.match(lines[2] ?? '', /registered .* up in 20 s$/)
    const before = { ...up, started: start, steps: { init: start, registered: start } }
    assert.match(table([before], start, 120)[1] ?? '', /registered .* up$/)
  })

  test('tells what was expected and the likely causes if a boot does not go on', () => {
    const lines = table([boot('52:54:00:00:00:01')], start + 120_000, 200)
    assert.match(lines[2] ?? '', /expected next: the loader asks for the initrd; likely: .+; or /)
    assert.match(lines[3] ?? '', /docs\/troubleshooting\.md, “after kernel”/)
  })

  test('shows the whole text on a narrow terminal, in several lines', () => {
    const trouble = 'pxelinux.cfg/default: there is no such file'
    const lines = table([boot('52:54:00:00:00:01', { trouble })], start + 120_000, 60)
    const said = lines.map((line) => line.trim()).join(' ')
    assert.ok(said.includes(trouble))
    assert.match(said, /likely: the transfer stopped: .* large packets; or the file is larger/)
  })

  test('keeps its columns and its width if machines send characters that are two columns wide', () => {
    const trouble = `${'東京'.repeat(3)} ${'🚀'.repeat(40)} e\u0301`
    const lines = table([boot('52:54:00:00:00:01', { trouble })], start, 60)
    // As wcwidth(3) of the C library counts: two columns for each of these, none for the accent.
    const columns = (line: string) =>
      [...line.matchAll(/./gu)].reduce(
        (sum, [one]) => sum + (/[東京🚀]/u.test(one) ? 2 : one === '\u0301' ? 0 : 1),
        0,
      )
    for (const line of lines) assert.ok(columns(line) < 60, `${columns(line)}: ${line}`)
    assert.ok(lines.some((line) => columns(line) === 58 && line.includes('🚀')))
    const wide = [boot('東京', { steps: {} }), boot('a')]
    const [, first = '', second = ''] = table(wide, start, 120)
    const at = (line: string) => columns(line.slice(0, line.indexOf('10.0.0.100')))
    assert.equal(at(first), at(second))
  })

  test('replaces control characters', () => {
    const trouble = '\u001b[2J\u009b31m\u202e\r\n: there is no such file'
    const lines = table([boot('52:54:00:00:00:01', { trouble })], start, 200)
    assert.match(lines.join(' '), /\?\[2J\?31m\?\?\?: there is no such file$/)
  })

  test('shows neither a step nor the next one for a machine that is refused', () => {
    const refused = boot('52:54:00:00:00:01', {
      step: 'dhcp',
      steps: {},
      trouble: 'DHCP: not served',
    })
    assert.equal(stallOf(refused, start + 1e9), undefined)
    assert.match(
      table([refused], start + 60_000, 120)[1] ?? '',
      / - +1 min 0 s +15\.0 MiB  DHCP: not served$/,
    )
  })

  test('is never wider than the terminal', () => {
    const long = boot('52:54:00:00:00:01', { trouble: 'x'.repeat(500) })
    for (const width of [20, 40, 80, 300]) {
      for (const line of table([long], start + 120_000, width))
        assert.ok(line.length < Math.max(width, 21))
    }
  })
})
