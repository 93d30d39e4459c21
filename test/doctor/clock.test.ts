import assert from 'node:assert/strict'
import { test } from 'node:test'
import { examineClock } from '../../src/doctor/clock.ts'

test('a clock that is behind is found by its year or by an image', () => {
  const at = (text: string) => Date.parse(text)
  const image = { image: 'image', changedMs: at('2026-05-01T00:00:00Z') }
  assert.match(examineClock([], at('1970-01-01T00:01:00Z'))[0]?.message ?? '', /before 2024/)
  assert.match(examineClock([image], at('2026-04-30'))[0]?.message ?? '', /image was made later/)
  assert.deepEqual(examineClock([image], at('2026-05-01T00:00:00Z')), [])
})
