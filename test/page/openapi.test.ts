// The OpenAPI document, and whether the answers are as it says.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { Ajv2020 } from 'ajv/dist/2020.js'
import * as v from 'valibot'
import { openApi, openApiText } from '../../scripts/openapi/document.ts'
import { paths } from '../../src/page/routes.ts'
import { begunRollout } from '../serve/support/begun-rollout.ts'
import { netimageJson, repository } from '../support/netimage.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'
import { bootOf, record } from './support/boots.ts'
import { openPage } from './support/open-page.ts'

const freshName = freshNames(temporaryDirectory())
const [mac, other] = ['dc:a6:32:01:02:03', 'dc:a6:32:01:02:04']

const documentSchema = v.object({
  paths: v.record(
    v.string(),
    v.object({ get: v.object({ responses: v.record(v.string(), v.unknown()) }) }),
  ),
})

suite('the OpenAPI document', () => {
  const ajv = new Ajv2020({ strict: false, allErrors: true })
  ajv.addSchema(openApi(true), 'doc')
  ajv.addSchema(openApi(false), 'served')

  function assertFits(answer: unknown, schema: string, document = 'doc'): void {
    const validate = ajv.getSchema(`${document}#/components/schemas/${schema}`)
    assert.ok(validate, schema)
    assert.ok(validate(answer), `${schema}: ${ajv.errorsText(validate.errors)}`)
  }

  test('is what the server has, and allows what later versions add', async (context) => {
    const { ask } = await openPage(context, freshName())
    const { headers, body } = await ask('/api/openapi.json')
    const advice = 'it is old: run node scripts/openapi.ts'
    assert.equal(body, openApiText(), advice)
    assert.equal(headers['content-type'], 'application/json')
    const answer = { version: '1', startedAt: 1, more: true }
    assertFits(answer, 'site', 'served')
    assert.throws(() => assertFits(answer, 'site'))
    assert.throws(() => assertFits({ ...answer, startedAt: 'now' }, 'site', 'served'))
    const described = Object.keys(v.parse(documentSchema, openApi(false)).paths)
    assert.deepEqual([...described, '/api/openapi.json'].toSorted(), paths.toSorted())
  })

  test('names each refusal, and so does the list of errors', async (context) => {
    const { ask } = await openPage(context, freshName())
    const list = readFileSync(join(repository, 'docs/errors.md'), 'utf8')
    const refusals: [string, string, Parameters<typeof ask>[1]][] = [
      ['/api/machines', '/api/machines', { method: 'POST' }],
      ['/api/events', '/api/events', { method: 'DELETE' }],
      ['/metrics', '/metrics', { headers: { host: 'attacker.example' } }],
      ['/api/site', '/api/site', { headers: { host: 'attacker.example' } }],
      ['/api/log?number=0', '/api/log', {}],
      ['/api/machines/%ff', '/api/machines/{machine}', {}],
      ['/api/groups/none', '/api/groups/{group}', {}],
    ]
    for (const [path, described, asking] of refusals) {
      const { status, body } = await ask(path, asking)
      const answer: unknown = JSON.parse(body)
      assertFits(answer, 'failed')
      const { error } = v.parse(v.object({ error: v.object({ code: v.string() }) }), answer)
      const row = new RegExp(`^\\| \`${error.code}\` +\\| ${status} +\\|`, 'm')
      assert.match(list, row, path)
      const responses = v.parse(documentSchema, openApi(false)).paths[described]?.get.responses
      const response: unknown = responses?.[String(status)]
      assert.ok(JSON.stringify(response)?.includes('/failed"'), `${path}: ${status}`)
    }
  })

  test('describes all answers about a site in full', async (context) => {
    const state = await begunRollout(freshName(), [mac, other])
    await netimageJson(['site', 'name', mac, 'pi1', '--state', state])
    await netimageJson(['site', 'hold', other, '--state', state])
    const started = Date.now() - 600_000
    const stuck = {
      started,
      step: 'kernel',
      steps: { kernel: started },
      lastSign: started,
    } as const
    const boots = [
      bootOf(mac, { address: '10.0.0.7' }),
      bootOf(other, { ...stuck, trouble: 'it fails', sending: 1, asksToBoot: true }),
      bootOf('10.0.0.8'),
    ]
    record(
      state,
      boots.map((boot) => [boot, { kind: 'root', step: 'init', mac: boot.machine }]),
    )
    const { json, ask } = await openPage(context, state, () => boots)
    const paths: [string, string][] = [
      ...([
        ['/api/site', 'site'],
        ['/api/images', 'images'],
        ['/api/machines', 'machines'],
      ] as const),
      [`/api/machines/${mac}`, 'machineInFull'],
      [`/api/machines/${other}`, 'machineInFull'],
      [`/api/machines/${mac}/boots`, 'boots'],
      [`/api/machines/${other}/boots/${started}`, 'oneBoot'],
      ...([
        ['/api/groups', 'groups'],
        ['/api/groups/lab', 'group'],
      ] as const),
      ...([
        ['/api/boots', 'boots'],
        ['/api/log', 'log'],
        ['/api/targets', 'targets'],
      ] as const),
    ].map(([path = '', schema = '']) => [path, schema])
    for (const [path, schema] of paths) assertFits(await json(path), schema)
    for (const path of ['/api/nothing', '/api/log?number=0', '/api/machines/pi9']) {
      const { body } = await ask(path)
      assertFits(JSON.parse(body), 'failed')
    }
  })
})
