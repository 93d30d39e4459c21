// The parsers of single values in the file of a site.

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { formatDuration, parseDuration } from '../../../src/site/desired/duration.ts'
import { nearestOf } from '../../../src/site/desired/nearest.ts'
import { isPattern, matchesPattern, parseSelector } from '../../../src/site/desired/selector.ts'
import { readSystemName } from '../../../src/site/desired/system-name.ts'

suite('times', () => {
  test('are read as people write them', () => {
    const times = { '10m': 600_000, '90s': 90_000, '1h30m': 5_400_000, '0s': 0, '24h': 86_400_000 }
    for (const [text, milliseconds] of Object.entries(times)) {
      assert.equal(parseDuration(text), milliseconds, text)
    }
  })

  test('are refused in any other form', () => {
    const texts = [
      '',
      '10',
      'm',
      '-1m',
      '1.5h',
      '10 m',
      '30m1h',
      '1m1m',
      '1M',
      '1e3s',
      '１m',
      '9000h',
    ]
    for (const text of [...texts, '999999999h', '1000000000s', '10m\n']) {
      assert.equal(parseDuration(text), undefined, text)
    }
  })

  test('are written in the form in which they are read', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 365 * 24 * 3600 }), (seconds) => {
        assert.equal(parseDuration(formatDuration(seconds * 1000)), seconds * 1000)
      }),
    )
    assert.equal(formatDuration(5_400_000), '1h30m')
  })
})

suite('names of machines', () => {
  test('are names, addresses or patterns, in lower case', () => {
    const selectors = {
      PI1: 'pi1',
      'DC-A6-32-01-02-03': 'dc:a6:32:01:02:03',
      '10.0.0.7': '10.0.0.7',
      'DC:A6:32:*': 'dc:a6:32:*',
      '*': '*',
    }
    for (const [text, selector] of Object.entries(selectors)) {
      assert.equal(parseSelector(text), selector, text)
    }
    for (const text of [
      '',
      'any',
      'pi 1',
      '-pi',
      'pi_1',
      'dc:a6:32:01:02',
      '10.0.0',
      'pi?',
      'a'.repeat(64),
      'ü*',
      `*${'a'.repeat(63)}`,
    ]) {
      assert.equal(parseSelector(text), undefined, text)
    }
  })

  test('match as patterns of a shell do', () => {
    const character = fc.constantFrom('a', 'b', ':')
    const text = fc.string({ unit: character, maxLength: 12 })
    const pattern = fc.string({ unit: fc.constantFrom('a', 'b', ':', '*'), maxLength: 8 })
    fc.assert(
      fc.property(pattern, text, (pattern, text) => {
        const expression = new RegExp(`^${pattern.replaceAll('*', '.*')}$`)
        assert.equal(matchesPattern(pattern, text), expression.test(text), `${pattern} ${text}`)
      }),
      { numRuns: 2000 },
    )
  })

  test('match without backtracking', () => {
    // A regular expression with this many stars would not end.
    assert.equal(matchesPattern(`${'a*'.repeat(31)}b`, 'a'.repeat(63)), false)
  })

  test('mean the same if they are read again', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        const selector = parseSelector(text)
        if (selector === undefined || isPattern(selector)) return
        assert.equal(parseSelector(selector), selector)
      }),
    )
  })
})

suite('the nearest word', () => {
  test('is one with few other letters', () => {
    const keys = ['system', 'machines', 'waves', 'max-unavailable', 'halt']
    const meant = {
      max_unavailable: 'max-unavailable',
      sytem: 'system',
      halts: 'halt',
      wave: 'waves',
    }
    for (const [text, key] of Object.entries(meant)) assert.equal(nearestOf(text, keys), key, text)
    for (const text of ['', 'x', 'colour', 'y'.repeat(10_000)]) {
      assert.equal(nearestOf(text, keys), undefined, text)
    }
  })

  test('is the word itself if it is known', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.string({ maxLength: 10 }), { minLength: 1 }), (words) => {
        for (const word of words) assert.equal(nearestOf(word, words), word)
      }),
    )
  })
})

test('a path in the file begins beside the file, and a word is an image of the site', () => {
  const read = (system: string) => readSystemName(system, '/srv/site')
  const names = {
    '.#lab': '/srv/site#lab',
    '#lab': '/srv/site#lab',
    './sub#lab': '/srv/site/sub#lab',
    '/elsewhere#lab': '/elsewhere#lab',
    'github:me/site#lab': 'github:me/site#lab',
    './lab': '/srv/site/lab',
    '../lab': '/srv/lab',
    '.': '/srv/site',
    '..': '/srv',
    '/nix/store/x': '/nix/store/x',
    result: undefined,
    '750abfcbdf3c': undefined,
  }
  for (const [system, named] of Object.entries(names)) {
    const expected = named === undefined ? { ofSite: system } : { named }
    assert.deepEqual(read(system), expected, system)
  }
})
