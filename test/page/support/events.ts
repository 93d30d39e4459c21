// A browser's part of server-sent events [HTML, section 9.2.6].

import { once } from 'node:events'
import { request, type IncomingMessage } from 'node:http'
import type { TestContext } from 'node:test'
import * as v from 'valibot'
import { waitFor } from '../../support/waiting.ts'

export interface WatchedEvents {
  status: number | undefined
  /** The next event of this type whose data are so. */
  until: (
    type: string,
    isSo: (data: Record<string, unknown>) => boolean,
  ) => Promise<Record<string, unknown>>
  close: () => void
}

interface Told {
  type: string
  data: Record<string, unknown>
}

export async function watchEvents(context: TestContext, url: URL): Promise<WatchedEvents> {
  const asked = request(url, { agent: false })
  asked.on('error', () => {})
  asked.end()
  const [response]: IncomingMessage[] = await once(asked, 'response')
  if (!response) throw new Error('no response')
  const close = () => void response.destroy()
  context.after(close)
  const told = parse(response)
  return {
    status: response.statusCode,
    close,
    async until(type, isSo) {
      const find = async () => {
        for (;;) {
          const next = await told.next()
          if (next.done) throw new Error(`the stream ended before ${type}`)
          if (next.value.type === type && isSo(next.value.data)) return next.value.data
        }
      }
      return await waitFor(`the event ${type}`, find())
    },
  }
}

async function* parse(response: IncomingMessage): AsyncGenerator<Told> {
  let rest = ''
  response.setEncoding('utf8')
  for await (const part of response) {
    const blocks = `${rest}${v.parse(v.string(), part)}`.split('\n\n')
    rest = blocks.pop() ?? ''
    for (const block of blocks) {
      const fields = new Map(
        block.split('\n').flatMap((line) => {
          const [, name, value] = /^(\w+): (.*)$/.exec(line) ?? []
          return name === undefined || value === undefined ? [] : [[name, value] as const]
        }),
      )
      const [type, data] = [fields.get('event'), fields.get('data')]
      if (type === undefined || data === undefined) continue
      yield { type, data: v.parse(v.record(v.string(), v.unknown()), JSON.parse(data)) }
    }
  }
}
