import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { rules } from '../../src/check/rules.ts'
import { repository } from '../support/netimage.ts'

const docs = join(repository, 'docs')
const page = readFileSync(join(docs, 'checks.md'), 'utf8')
const sections = page.split(/^### /m).slice(1)

test('every rule has one section in the manual, and every section has a rule', () => {
  const titles = sections.map((section) => section.split('\n', 1)[0] ?? '')
  assert.deepEqual(titles.toSorted(), rules.map(({ name }) => name).toSorted())
})

test('each section names the level, the effect at boot, and the fix', () => {
  for (const section of sections) {
    const name = section.split('\n', 1)[0]
    const rule = rules.find((rule) => rule.name === name)
    assert.ok(rule)
    assert.match(section, new RegExp(`^${name}\\n\\n_${rule.level}`), name)
    for (const part of ['At boot', 'To mend it'])
      assert.match(section, new RegExp(`\\*\\*${part}`), name)
  }
})

test('other pages use the whole names of rules, and link to their sections', () => {
  const names = rules.map(({ name }) => name)
  for (const file of readdirSync(docs, { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.md')) continue
    const text = readFileSync(join(docs, file), 'utf8')
    for (const [, word = ''] of text.matchAll(/`([a-z0-9]+(?:-[a-z0-9]+)+)`/g)) {
      const isCut = names.some((name) => name.startsWith(`${word}-`))
      assert.ok(!isCut, `${file} has ${word}, which is the beginning of a rule’s name`)
    }
    for (const [, anchor = ''] of text.matchAll(/\(checks\.md#([^)]*)\)/g)) {
      assert.ok(names.includes(anchor), `${file} links to ${anchor}`)
    }
  }
})
