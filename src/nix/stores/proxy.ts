/**
 * The proxy that the environment names for a URL, by the rules of curl, which Nix uses.
 *
 * https://everything.curl.dev/usingcurl/proxies/env.html
 */
import { BlockList, isIP, isIPv4 } from 'node:net'

import { NetimageError } from '../../errors.ts'
import { withoutLogin } from './without-login.ts'

/** @returns undefined if requests go directly to the server */
export function proxyFor(target: URL, env: NodeJS.ProcessEnv): URL | undefined {
  const text = namedProxy(target, env)
  const exceptions = env['no_proxy'] || env['NO_PROXY'] || ''
  return text === undefined || isException(hostOf(target), exceptions) ? undefined : parse(text)
}

function namedProxy(target: URL, env: NodeJS.ProcessEnv): string | undefined {
  // Ignore HTTP_PROXY, as curl does: a client of a CGI program can set it with a header `Proxy`.
  const own =
    target.protocol === 'https:' ? env['https_proxy'] || env['HTTPS_PROXY'] : env['http_proxy']
  return own || env['all_proxy'] || env['ALL_PROXY'] || undefined
}

const schemes = new Set(['http:', 'https:'])
const defaultPort = '1080'

function parse(named: string): URL {
  const text = /^[a-z0-9+.-]+:\/\//i.test(named) ? named : `http://${named}`
  const url = URL.parse(text)
  if (!url?.hostname) throw badProxy(text, 'it is not a URL')
  if (!schemes.has(url.protocol))
    throw badProxy(text, `netimage does not support ${url.protocol}// proxies`)
  // The parser omits the port if it is 80, so look for the port in the text.
  const authority = text.replace(/^[a-z0-9+.-]+:\/\//i, '').replace(/\/.*$/, '')
  const hasPort = /:\d+$/.test(authority.slice(authority.lastIndexOf('@') + 1))
  if (url.protocol === 'http:' && !hasPort) url.port = defaultPort
  return url
}

function badProxy(url: string, why: string): NetimageError {
  const shown = JSON.stringify(withoutLogin(url))
  return new NetimageError('bad-config', `could not use the proxy ${shown}: ${why}`, {
    hint: 'Set http_proxy, https_proxy or all_proxy in the environment to http://host:port or https://host:port. no_proxy names the servers that need no proxy.',
    details: { url: withoutLogin(url) },
  })
}

/** The host without the brackets of an IPv6 address and without the final dot of a full name. */
function hostOf(url: URL): string {
  return url.hostname.replace(/^\[(.*)\]$/, '$1').replace(/\.$/, '')
}

/** @param exceptions names, addresses and networks, separated by commas or blanks; or one `*` */
function isException(host: string, exceptions: string): boolean {
  if (exceptions === '*') return true
  const patterns = exceptions.split(/[\s,]+/).filter(Boolean)
  return patterns.some(
    isIP(host) ? (text) => holdsAddress(text, host) : (text) => isBelow(text, host),
  )
}

function isBelow(pattern: string, host: string): boolean {
  const name = pattern.replace(/^\./, '').replace(/\.$/, '').toLowerCase()
  return name === host || (name !== '' && host.endsWith(`.${name}`))
}

function holdsAddress(pattern: string, address: string): boolean {
  const [, base = '', bits] = /^\[?([^/\]]*)\]?(?:\/(\d+))?$/.exec(pattern) ?? []
  const family = isIPv4(address) ? 'ipv4' : 'ipv6'
  const whole = family === 'ipv4' ? 32 : 128
  const prefix = bits === undefined ? whole : Number(bits)
  if (isIP(base) !== isIP(address) || prefix > whole) return false
  const network = new BlockList()
  network.addSubnet(base, prefix, family)
  return network.check(address, family)
}
