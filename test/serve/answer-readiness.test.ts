// What a machine says in the file by which it asks whether it may restart, and what it gets for an answer.

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { answerReadiness } from '../../src/serve/answer-readiness.ts'
import { parseReady, restartAnswerBytes } from '../../src/site/rollout/readiness-files.ts'
import { readSmallFile } from '../../src/roots/find-node.ts'
import { makeRoot, plant, type Made } from '../site/publish/support/roots.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { waitUntil } from '../support/waiting.ts'

const freshName = freshNames(temporaryDirectory())
const folder = '/nix/var/netimage/restart'
const name = Buffer.from('ready')

/** @param made what stands in place of both files */
function ask(made: { ready: Made; answer: Made }) {
  const { fileSystem } = makeRoot(freshName())
  for (const [each, node] of Object.entries(made)) plant(fileSystem, `${folder}/${each}`, node)
  const [said, asked, errors]: [boolean[], string[], Error[]] = [[], [], []]
  /** What was looked at. All of a file is read in the same turn of the event loop. */
  const looked: string[] = []
  const answering = answerReadiness({
    site: {
      async setReadiness(_machine, isReady) {
        await Promise.resolve()
        said.push(isReady)
      },
      async letRestart(machine) {
        await Promise.resolve()
        asked.push(machine)
        return asked.length === 3
      },
    },
    machines: {
      rootOf() {
        looked.push('root')
        return { fileSystem }
      },
    },
    onError: (error) => errors.push(error),
  })
  answering.observe({ machine: 'pi1', procedure: 'RENAME', name })
  // It has its turn.
  answering.observe({ machine: 'pi1', procedure: 'RENAME', name })
  answering.observe({ machine: 'pi2', procedure: 'CREATE', name })
  const answer = () =>
    readSmallFile(fileSystem, [...folder.split('/').filter(Boolean), 'answer'], 4096)
  return { said, asked, errors, looked, answer, close: () => answering.close() }
}

const ready = (isReady: boolean): Made => ({
  file: `{ "version": 1, "id": "17-3", "ready": ${isReady} }\n`,
})
const empty: Made = { file: ' '.repeat(restartAnswerBytes) }

suite('a machine that asks whether it may restart itself', () => {
  test('is told so once a roll-out lets it', async () => {
    const { said, asked, errors, answer, close } = ask({
      ready: ready(true),
      answer: empty,
    })
    await waitUntil('the answer', () => answer()?.startsWith('id ') ?? false)
    assert.equal(answer()?.trimEnd(), 'id 17-3\nstatus restart')
    assert.equal(answer()?.length, restartAnswerBytes)
    assert.deepEqual([said, asked, errors], [[true], ['pi1', 'pi1', 'pi1'], []])
    await close()
  })

  test('has no answer if it says that it would not', async () => {
    const { said, asked, answer, close } = ask({ ready: ready(false), answer: empty })
    await waitUntil('the server knows it', () => said.length > 0)
    await close()
    assert.deepEqual([said, asked, answer()?.trim()], [[false], [], ''])
  })

  test('is not followed to another place, and nothing is written into what is no file', async () => {
    const link: Made = { link: '/etc/passwd' }
    const hostile = [
      { ready: link, answer: empty },
      { ready: { hole: 2 ** 40 }, answer: empty },
      { ready: { special: 'fifo' }, answer: empty },
      { ready: { directory: {} }, answer: empty },
      { ready: ready(true), answer: link },
      { ready: ready(true), answer: { directory: {} } },
    ] as const
    const all = await Promise.all(
      hostile.map(async (made, at) => {
        const each = ask(made)
        const isRead = at >= 4
        await waitUntil('the server has looked', () => each.looked.length === (isRead ? 2 : 1))
        await each.close()
        return [each.said.length, each.errors.length]
      }),
    )
    assert.deepEqual(
      all,
      [0, 0, 0, 0, 1, 1].map((said) => [said, 0]),
    )
  })

  test('may write anything', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        assert.equal(parseReady(text), undefined)
      }),
    )
    const valid = { version: 1, id: 'a', ready: true }
    assert.deepEqual(parseReady(JSON.stringify(valid)), valid)
    for (const wrong of [
      { version: 2 },
      { id: 'a b' },
      { id: 'a'.repeat(65) },
      { ready: 'true' },
    ]) {
      assert.equal(parseReady(JSON.stringify({ ...valid, ...wrong })), undefined)
    }
  })
})
