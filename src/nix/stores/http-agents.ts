/** Connections to servers, kept open and reused: direct or through a proxy, plain or with TLS. */
import type { SecureContext } from 'node:tls'
import { Agent, Pool, ProxyAgent, type Dispatcher } from 'undici'

import { trustedAuthorities } from './certificates.ts'
import { proxyFor } from './proxy.ts'

const connectMs = 10_000
const longestSilenceMs = 30_000
const connections = 24

export interface HttpAgents {
  /** The connections for requests to `target`. */
  agentFor(target: URL): Dispatcher
  close(): Promise<void>
}

/** @param silenceMs how long a server or a proxy may send nothing, in milliseconds */
export function createHttpAgents(env: NodeJS.ProcessEnv, silenceMs = longestSilenceMs): HttpAgents {
  const agents = new Map<string, Dispatcher>()
  let authorities: SecureContext | undefined

  function create(proxy: URL | undefined, usesTls: boolean): Dispatcher {
    const timeouts = { headersTimeout: silenceMs, bodyTimeout: silenceMs }
    const settings = { connections, ...timeouts }
    // Read the authorities only if something needs them.
    const secureContext = usesTls ? (authorities ??= trustedAuthorities(env)) : undefined
    const connect = { timeout: connectMs, ...(secureContext && { secureContext }) }
    if (!proxy) return new Agent({ ...settings, connect })
    return new ProxyAgent({
      ...settings,
      uri: proxy.href,
      requestTls: connect,
      proxyTls: connect,
      // undici makes the clients that speak to the proxy itself without our settings.
      clientFactory: (origin, options) => new Pool(origin, { ...options, ...timeouts }),
      factory: (origin, options) => new Pool(origin, Object.assign(options, settings)),
    })
  }

  return {
    agentFor(target) {
      const proxy = proxyFor(target, env)
      const usesTls = target.protocol === 'https:' || proxy?.protocol === 'https:'
      const key = `${usesTls} ${proxy?.href}`
      const agent = agents.get(key) ?? create(proxy, usesTls)
      agents.set(key, agent)
      return agent
    },
    async close() {
      await Promise.all([...agents.values()].map((agent) => agent.destroy()))
    },
  }
}
