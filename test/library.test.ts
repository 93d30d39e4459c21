// The programming interface, as docs/library.md tells of it.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import * as library from '../src/index.ts'
import { repository } from './support/netimage.ts'

const source = readFileSync(join(repository, 'src/index.ts'), 'utf8')
const manual = readFileSync(join(repository, 'docs/library.md'), 'utf8')

test('the manual names every export, and has an example of each that is no type', () => {
  const exported = [...source.matchAll(/\{([^}]*)\}/g)].flatMap(([, names = '']) =>
    names.split(',').map((name) => name.replace(/\btype\b/, '').trim()),
  )
  assert.ok(exported.length > 20)
  const words = (text: string) => new Set(text.match(/\w+/g))
  assert.deepEqual(
    exported.filter((name) => !words(manual).has(name)),
    [],
  )
  const examples = [...manual.matchAll(/^```ts\n(.*?)^```/gms)].map(([, code = '']) => code)
  const used = words(examples.join('\n'))
  assert.deepEqual(
    Object.keys(library).filter((name) => !used.has(name)),
    [],
  )
})
