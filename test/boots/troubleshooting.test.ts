import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { bootSteps, expectations } from '../../src/boots/step.ts'
import { repository } from '../support/netimage.ts'

test('each step at which a boot may stop has a section in docs/troubleshooting.md', () => {
  const page = readFileSync(join(repository, 'docs/troubleshooting.md'), 'utf8')
  const sections = new Set([...page.matchAll(/^## After (\w+)$/gm)].map(([, step]) => step))
  for (const step of bootSteps) {
    assert.equal(sections.has(step), expectations[step].causes.length > 0, step)
  }
})
