import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { parseRanges } from '../../../src/protocols/http/range.ts'

const size = 10_000

suite('ranges of HTTP', () => {
  for (const [header, expected] of [
    // The examples of RFC 9110 §14.1.2, with 10,000 bytes.
    ['bytes=0-499', '0-499'],
    ['bytes=500-999', '500-999'],
    ['bytes=-500', '9500-9999'],
    ['bytes=9500-', '9500-9999'],
    ['bytes=0-0,-1', '0-0 9999-9999'],
    [' Bytes=  1-2 , 5-6 ', '1-2 5-6'],
    ['bytes=500-600,601-999', '500-600 601-999'],
    // Overlapping ranges: we send the whole file, which §14.2 allows.
    ['bytes=500-700,601-999', 'whole'],
    ['bytes=0-,0-', 'whole'],
    [
      `bytes=${Array.from({ length: 17 }, (_, index) => `${index * 2}-${index * 2}`).join()}`,
      'whole',
    ],
    // Ranges that reach behind the end.
    ['bytes=9999-20000', '9999-9999'],
    ['bytes=10000-', 'unsatisfiable'],
    ['bytes=-0', 'unsatisfiable'],
    ['bytes=20000-30000,5-6', '5-6'],
    [`bytes=${'9'.repeat(400)}-`, 'unsatisfiable'],
    [`bytes=0-${'9'.repeat(400)}`, '0-9999'],
    ['bytes=-20000', '0-9999'],
    // An invalid header is ignored.
    ['bytes=5-4', 'whole'],
    ['bytes=-', 'whole'],
    ['bytes=', 'whole'],
    ['bytes=a-b', 'whole'],
    ['bytes=1-2-3', 'whole'],
    ['lines=1-2', 'whole'],
    [undefined, 'whole'],
  ] as const) {
    test(`${header?.slice(0, 40)}: ${expected}`, () => {
      assert.equal(shown(header, size), expected)
    })
  }

  test('an empty file has no range', () => {
    assert.equal(shown('bytes=0-', 0), 'whole')
  })

  test('are always within the file, and together not longer than the file', () => {
    const number = fc.oneof(fc.constant(''), fc.nat(40).map(String), fc.bigInt().map(String))
    const spec = fc.tuple(number, number).map(([first, last]) => `${first}-${last}`)
    const header = fc.array(spec, { maxLength: 20 }).map((specs) => `bytes=${specs.join(',')}`)
    fc.assert(
      fc.property(header, fc.nat(40), (value, length) => {
        const ranges = parseRanges(value, length)
        if (typeof ranges === 'string') return
        assert.ok(ranges.length > 0)
        let bytes = 0
        for (const { first, last } of ranges) {
          assert.ok(first >= 0 && first <= last && last < length)
          bytes += last - first + 1
        }
        assert.ok(bytes <= length)
      }),
    )
  })
})

function shown(header: string | undefined, length: number): string {
  const ranges = parseRanges(header, length)
  if (typeof ranges === 'string') return ranges
  return ranges.map(({ first, last }) => `${first}-${last}`).join(' ')
}
