// The commands and the files that docs/start.md shows.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { repository } from '../../support/netimage.ts'

const page = readFileSync(join(repository, 'docs/start.md'), 'utf8')

/** The blocks of code in a section, in their order. */
export function blocksOf(section: string, language: 'nix' | 'sh'): string[] {
  const text = page.split(/^## /m).find((each) => each.startsWith(`${section}\n`))
  assert.ok(text !== undefined, `docs/start.md has no section "${section}"`)
  return [...text.matchAll(/^```(\w+)\n([^]*?)^```$/gm)].flatMap(([, found, code = '']) =>
    found === language ? [code] : [],
  )
}

/**
 * The commands of a section for the shell.
 *
 * @param values for all variables that the first block of the section sets: this block alone is another
 * @returns the blocks, word for word, with the values before them
 */
export function commandsOf(
  section: string,
  values: Readonly<Record<string, string>>,
): { values: string; blocks: string[] } {
  const [own = '', ...blocks] = blocksOf(section, 'sh')
  const names = own.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  assert.deepEqual(
    names.map((line) => line.slice(0, line.indexOf('='))),
    Object.keys(values),
  )
  const lines = Object.entries(values).map(([name, value]) => `${name}='${value}'`)
  return { values: lines.join('\n'), blocks }
}
