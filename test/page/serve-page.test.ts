// `--page`: at which address the page is, and what happens if its port is taken.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { suite, test, type TestContext } from 'node:test'
import { InvalidArgumentError } from '@commander-js/extra-typings'
import { parsePage } from '../../src/commands/serve-flags.ts'
import { servePage } from '../../src/commands/serve-page.ts'
import { errnoOf, NetimageError } from '../../src/errors.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'

const freshName = freshNames(temporaryDirectory())

/** Another program may have the port already. */
async function take(context: TestContext, port: number): Promise<number> {
  const server = createServer()
  context.after(() => server.close())
  server.listen(port, '127.0.0.1')
  try {
    await once(server, 'listening')
  } catch (error) {
    if (errnoOf(error) !== 'EADDRINUSE') throw error
    return port
  }
  const bound = server.address()
  return typeof bound === 'object' && bound ? bound.port : assert.fail()
}

function settings() {
  const warnings: string[] = []
  return {
    ...{ state: freshName(), place: undefined, names: [], boots: () => [], operations: () => ({}) },
    ...{ warnings, warn: (line: string) => void warnings.push(line), onError: assert.ifError },
  }
}

suite('the place of the page', () => {
  test('is an address and a port, or off', () => {
    const right = {
      '127.0.0.1:8080': { host: '127.0.0.1', port: 8080 },
      '[::1]:80': { host: '::1', port: 80 },
      'localhost:0': { host: 'localhost', port: 0 },
      'boot.home.arpa:65535': { host: 'boot.home.arpa', port: 65_535 },
      off: 'off',
    }
    for (const [text, place] of Object.entries(right)) assert.deepEqual(parsePage(text), place)
    const wrong = ['', '8080', ':8080', '::1:80', '127.0.0.1:', 'a:65536', 'a:-1', 'a b:1', 'on']
    for (const text of wrong) assert.throws(() => parsePage(text), InvalidArgumentError, text)
  })

  test('is not there if it is off, or if another program has the port that nobody named', async (context) => {
    const off = settings()
    assert.equal(await servePage({ ...off, place: 'off' }), undefined)
    assert.deepEqual(off.warnings, [])
    await take(context, 8080)
    const taken = settings()
    assert.equal(await servePage(taken), undefined)
    assert.match(
      taken.warnings.join('\n'),
      /^warning: there is no status page: .*8080.*\n {2}.*--page off/,
    )
  })

  test('is an error if another program has the port that the person named', async (context) => {
    const port = await take(context, 0)
    const named = settings()
    await assert.rejects(
      servePage({ ...named, place: { host: '127.0.0.1', port } }),
      (error) => error instanceof NetimageError && error.code === 'cannot-listen',
    )
    assert.deepEqual(named.warnings, [])
  })

  test('can be an address of IPv6, or a name', async (context) => {
    for (const host of ['::1', 'localhost']) {
      const page = await servePage({ ...settings(), place: { host, port: 0 } })
      context.after(() => page?.close())
      const { status } = await fetch(`${page?.url}api/site`)
      assert.equal(status, 200)
    }
  })
})
