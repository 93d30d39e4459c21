import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { printableJson, visible, visibleLines } from '../src/printable.ts'

/** C0, DEL, C1 with CSI, characters that change the text's direction, other ends of lines. */
const controls = /[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029]/

suite('printed text', () => {
  test('never controls the terminal, whatever name a machine sends', () => {
    const text = fc.string({ unit: 'binary', maxLength: 50 })
    fc.assert(
      fc.property(fc.array(text), (texts) => {
        const value = { texts }
        for (const indent of [undefined, 2]) {
          const json = printableJson(value, indent)
          assert.doesNotMatch(json.replaceAll('\n', ''), controls)
          assert.deepEqual(JSON.parse(json), JSON.parse(JSON.stringify(value)))
        }
        const all = texts.join('')
        assert.doesNotMatch(visible(all), controls)
        assert.doesNotMatch(visibleLines(all).replaceAll(/[\n\t]/g, ''), controls)
      }),
      { examples: [[['\u009b31m', '\u202etxt.exe', '\u001b[2J', 'ä日本']]] },
    )
  })

  test('keeps all other characters and its lines', () => {
    assert.equal(visibleLines('a\tä\n日本 \u001b[2J'), 'a\tä\n日本 ?[2J')
    assert.equal(printableJson({ a: '\u009bä' }), '{"a":"\\u009bä"}')
  })
})
