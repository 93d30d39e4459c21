import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { doctorCodes } from '../../src/doctor/finding.ts'

test('each code of a finding has its section in the manual', () => {
  const page = readFileSync(join(import.meta.dirname, '../../docs/doctor.md'), 'utf8')
  const sections = [...page.matchAll(/^### ([a-z-]+)$/gm)].map(([, code]) => code)
  assert.deepEqual(new Set(sections), new Set(doctorCodes))
})
