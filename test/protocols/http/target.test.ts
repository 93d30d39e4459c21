import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { evaluateConditions, rangeApplies } from '../../../src/protocols/http/conditions.ts'
import { pathOfTarget } from '../../../src/protocols/http/target.ts'

suite('the target of a request', () => {
  test('is decoded to the path that was encoded', () => {
    const part = fc.string({ unit: 'grapheme', maxLength: 12 })
    const query = fc.constantFrom('', '?', '?a=/b', '#c', '?x#y?')
    const origin = fc.constantFrom('', 'http://10.0.0.1', 'HTTPS://[::1]:8080')
    fc.assert(
      fc.property(origin, fc.array(part), query, (before, parts, after) => {
        const path = `/${parts.join('/')}`
        const target = before + path.split('/').map(encodeURIComponent).join('/') + after
        assert.equal(pathOfTarget(target), path)
      }),
    )
  })

  test('is a path or undefined for any text', () => {
    const piece = fc.oneof(
      fc.constantFrom(
        '/',
        '%',
        '%2e',
        '%ff',
        '%00',
        '%c0%af',
        '..',
        '?',
        '#',
        'http://',
        '\\',
        '//',
      ),
      fc.string({ unit: 'binary', maxLength: 5 }),
    )
    let paths = 0
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
        const path = pathOfTarget(pieces.join(''))
        if (path === undefined) return
        paths++
        assert.match(path, /^\//)
      }),
      { numRuns: 2000 },
    )
    assert.ok(paths > 100)
  })
})

suite('conditions', () => {
  test('of any kind are answered', () => {
    const tag = fc.constantFrom('"a"', 'W/"a"', '*', '"', 'W/', 'a', '"a", "b"', ',,,')
    const date = fc.constantFrom('Mon, 23 Nov 2026 05:00:00 GMT', 'yesterday', '', '-1')
    const value = fc.option(fc.oneof(tag, date, fc.string({ unit: 'binary' })), { nil: undefined })
    const names = [
      'if-match',
      'if-none-match',
      'if-range',
      'if-modified-since',
      'if-unmodified-since',
    ]
    const validators = { tag: '"a"', modified: 1_795_413_600_000 }
    fc.assert(
      fc.property(fc.tuple(...names.map(() => value)), (values) => {
        const headers = Object.fromEntries(names.map((name, index) => [name, values[index]]))
        assert.match(evaluateConditions(headers, validators), /^(send|not-modified|failed)$/)
        assert.equal(typeof rangeApplies(headers, validators), 'boolean')
      }),
    )
  })
})
