// A page of a site, and what it answers.

import assert from 'node:assert/strict'
import { request, type IncomingHttpHeaders, type OutgoingHttpHeaders } from 'node:http'
import { text } from 'node:stream/consumers'
import type { TestContext } from 'node:test'
import * as v from 'valibot'
import type { Boot } from '../../../src/boots/follow.ts'
import { startPage, type Page, type PageSettings } from '../../../src/page/page.ts'

export interface Answered {
  status: number | undefined
  headers: IncomingHttpHeaders
  body: string
}

interface Asking {
  method?: string
  headers?: OutgoingHttpHeaders
}

export interface OpenPage extends Pick<Page, 'see' | 'told'> {
  url: string
  port: number
  ask: (path: string, asking?: Asking) => Promise<Answered>
  /** The answer must be JSON, and its status 200. */
  json: (path: string) => Promise<unknown>
  close: () => Promise<void>
}

/** Ends with the test. No error may be told. */
export async function openPage(
  context: TestContext,
  state: string,
  boots: () => readonly Boot[] = () => [],
  more: Partial<PageSettings> = {},
): Promise<OpenPage> {
  const onError = (error: Error) => assert.ifError(error)
  const names: string[] = []
  const page = await startPage({
    ...{ state, boots, names, onError, operations: () => ({ READ: 7 }) },
    host: '127.0.0.1',
    port: 0,
    ...more,
  })
  context.after(() => page.close())
  const { url } = page
  const ask: OpenPage['ask'] = (path, asking = {}) => askPage(new URL(path, url), asking)
  return {
    ...{ see: page.see, told: page.told, close: () => page.close() },
    ...{ url, port: Number(new URL(url).port), ask },
    async json(path) {
      const { status, headers, body } = await ask(path)
      assert.equal(status, 200, body)
      assert.equal(headers['content-type'], 'application/json')
      return JSON.parse(body)
    },
  }
}

async function askPage(url: URL, asking: Asking): Promise<Answered> {
  const answered = Promise.withResolvers<Answered>()
  const asked = request(url, { agent: false, ...asking }, (response) => {
    const { statusCode: status, headers } = response
    text(response).then((body) => answered.resolve({ status, headers, body }), answered.reject)
  })
  asked.on('error', answered.reject)
  asked.end()
  return await answered.promise
}

export function listOf(answer: unknown, name: string): Record<string, unknown>[] {
  const object = v.parse(v.record(v.string(), v.unknown()), answer)
  return v.parse(v.array(v.record(v.string(), v.unknown())), object[name])
}
