import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { createQuestions } from '../../src/serve/shard/questions.ts'

function start() {
  const questions = createQuestions<string, string>()
  const sent: string[] = []
  let last = 0
  return {
    ...{ questions, sent },
    begin: () => questions.begin((id, asked) => void sent.push(`${(last = id)} ${asked}`)),
    ask: (asked: string, withinMs?: number) =>
      questions.ask({ machine: 'a machine', asked, withinMs, parse: (said) => said }),
    answer: (answer: string) => questions.answered({ id: last, answer }),
  }
}

suite('questions to a process', () => {
  test('wait until there is one, which is then asked once', async () => {
    const { ask, begin, answer, sent } = start()
    const asked = ask('who?')
    assert.deepEqual(sent, [])
    begin()
    answer('I')
    assert.equal(await asked, 'I')
    assert.deepEqual(sent, ['1 who?'])
  })

  test('are not for the next one: those that were sent, and those that wait', async () => {
    const { questions, ask, begin, answer, sent } = start()
    begin()
    const wasSent = ask('who?')
    questions.ended()
    assert.equal(await wasSent, 'no-answer')
    const waits = ask('and now?')
    // For example because it could not begin.
    questions.ended()
    assert.equal(await waits, 'no-answer')
    begin()
    assert.deepEqual(sent, ['1 who?'])
    const other = ask('and you?')
    answer('I')
    assert.equal(await other, 'I')
    assert.deepEqual(sent, ['1 who?', '3 and you?'])
  })

  test('are not sent if nobody waits any more', async () => {
    const { ask, begin, sent } = start()
    assert.equal(await ask('who?', 1), 'no-answer')
    begin()
    assert.deepEqual(sent, [])
  })

  test('are given up at the end, also those that come later', async () => {
    const { questions, ask, begin, sent } = start()
    const waits = ask('who?')
    questions.close()
    assert.equal(await waits, 'no-answer')
    assert.equal(await ask('and now?'), 'no-answer')
    begin()
    assert.deepEqual(sent, [])
  })
})
