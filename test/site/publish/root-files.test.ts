// Paths in the root of a machine, compared with a real kernel in a chroot.

import assert from 'node:assert/strict'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { NetimageError } from '../../../src/errors.ts'
import { resolveInRoot } from '../../../src/site/publish/root-files.ts'
import { mounted } from '../../support/namespace.ts'
import { findStaticBusybox, runProgram } from '../../support/real-nix.ts'
import { freshNames, temporaryDirectory } from '../../support/temporary.ts'
import { makeRoot, plant, type Made } from './support/roots.ts'

const freshName = freshNames(temporaryDirectory())
const busybox = await findStaticBusybox()

const name = fc.constantFrom('a', 'b', 'c')
const step = fc.constantFrom('a', 'b', 'c', '..', '.', '')
const way = fc
  .array(step, { maxLength: 5 })
  .chain((names) => fc.constantFrom(names.join('/'), `/${names.join('/')}`))
const link = way.filter((target) => target !== '').map((target): Made => ({ link: target }))
const leaf = fc.oneof(link, link, link, fc.constant<Made>({ file: 'x' }))
/** Names in which most are of this kind. */
const directoryOf = (made: fc.Arbitrary<Made>) =>
  fc.dictionary(name, fc.oneof(made, made, leaf), { minKeys: 2, maxKeys: 3 })
const asMade = (tree: fc.Arbitrary<Record<string, Made>>) =>
  tree.map((directory): Made => ({ directory }))
const tree = directoryOf(asMade(directoryOf(asMade(directoryOf(leaf)))))

function make(path: string, made: Made): void {
  if ('directory' in made) {
    mkdirSync(path, { recursive: true })
    for (const [child, below] of Object.entries(made.directory)) make(join(path, child), below)
  } else if ('link' in made) symlinkSync(made.link, path)
  else writeFileSync(path, '')
}

/** For each question, the path without links; empty if nothing is there. */
async function askKernel(root: string, questions: readonly string[]): Promise<string[]> {
  const script = 'for path; do if [ -e "$path" ]; then realpath "$path"; else echo; fi; done'
  const [command = '', ...args] = [
    ...mounted('mount -t tmpfs busybox "$1/bin"; cp "$2" "$1/bin/busybox"', root, busybox),
    ...['chroot', root, '/bin/busybox', 'sh', '-c', script, 'sh', ...questions],
  ]
  return (await runProgram(command, args)).split('\n').slice(0, -1)
}

test('a path in a root leads to the same file as for a kernel with this root', async () => {
  const question = way.map((text) => `/${text}`)
  await fc.assert(
    fc.asyncProperty(
      tree,
      fc.array(question, { minLength: 30, maxLength: 30 }),
      async (tree, questions) => {
        const [real, made] = [freshName(), freshName()]
        make(real, { directory: { ...tree, bin: { directory: {} } } })
        const root = makeRoot(made)
        try {
          plant(root.fileSystem, '/bin', { directory: {} })
          for (const [child, below] of Object.entries(tree)) plant(root.fileSystem, child, below)
          const ours = questions.map((path) => {
            try {
              return resolveInRoot(root.fileSystem, path)?.path ?? ''
            } catch (error) {
              assert.ok(error instanceof NetimageError && error.message.includes('40 links'))
              return ''
            }
          })
          assert.deepEqual(ours, await askKernel(real, questions))
        } finally {
          await root.close()
        }
      },
    ),
    {
      numRuns: 12,
      examples: [
        [{ a: { link: '/b/.' }, b: { file: '' }, c: { link: 'b/' } }, ['/a', '/b/', '/c', '/b/./']],
      ],
    },
  )
})
