import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { rules } from '../../src/check/rules.ts'
import { repository } from '../support/netimage.ts'

const page = readFileSync(join(repository, 'docs/checks.md'), 'utf8')
const sections = page.split(/^### /m).slice(1)

test('every rule has a section of its own in the manual, and every section a rule', () => {
  const titles = sections.map((section) => section.split('\n', 1)[0] ?? '')
  assert.deepEqual(titles.toSorted(), rules.map(({ name }) => name).toSorted())
})

test('each section says how serious it is, what is seen at boot, and what mends it', () => {
  for (const section of sections) {
    const name = section.split('\n', 1)[0]
    const rule = rules.find((rule) => rule.name === name)
    assert.ok(rule)
    assert.match(section, new RegExp(`^${name}\\n\\n_${rule.level}`), name)
    for (const part of ['At boot', 'To mend it'])
      assert.match(section, new RegExp(`\\*\\*${part}`), name)
  }
})
