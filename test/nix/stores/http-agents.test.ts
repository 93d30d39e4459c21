import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { suite, test } from 'node:test'
import { createHttpAgents } from '../../../src/nix/stores/http-agents.ts'

suite('a proxy that accepts connections and never answers', () => {
  for (const target of ['https://cache.example.org/', 'http://cache.example.org/']) {
    test(`fails a request for ${target}`, async () => {
      const sockets: Socket[] = []
      const proxy = createServer((socket) => {
        sockets.push(socket)
        socket.on('error', () => undefined)
      })
      proxy.listen(0, '127.0.0.1')
      await once(proxy, 'listening')
      const address = proxy.address()
      assert.ok(address !== null && typeof address === 'object')
      const at = `http://127.0.0.1:${address.port}`
      const agents = createHttpAgents({ http_proxy: at, https_proxy: at }, 200)
      try {
        const agent = agents.agentFor(new URL(target))
        const request = agent.request({ origin: target, path: '/', method: 'GET' })
        await assert.rejects(request, { code: 'UND_ERR_HEADERS_TIMEOUT' })
        assert.equal(sockets.length, 1)
      } finally {
        await agents.close()
        for (const socket of sockets) socket.destroy()
        proxy.close()
      }
    })
  }
})
