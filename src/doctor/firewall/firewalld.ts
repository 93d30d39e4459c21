/** Reads what `firewall-cmd` prints of zones (`--list-all`) and services (`--info-service`): firewall-cmd(1). */
import type { Service } from '../services.ts'

/** What a zone or a service opens. */
export interface Opening {
  ports: readonly string[]
  protocols: readonly string[]
  /** The names of services that it opens as well. */
  services: readonly string[]
}

export interface OpeningService extends Opening {
  /** Whether it opens its ports for all packets. */
  isSure: boolean
}

export interface Zone extends Opening {
  /** Whether nothing more decides: rich rules, or sources. */
  isPlain: boolean
  /** Whether all is let in that nothing refuses. */
  isAccepting: boolean
}

export function parseZone(text: string): Zone {
  const { lines, wordsOf } = readLines(text)
  const rich = lines.findIndex((line) => line.startsWith('rich rules:'))
  const hasRich = rich >= 0 && lines.slice(rich + 1).some((line) => line.startsWith('rule '))
  return {
    ports: wordsOf('ports'),
    protocols: wordsOf('protocols'),
    services: wordsOf('services'),
    isPlain: !hasRich && wordsOf('sources').length === 0,
    isAccepting: wordsOf('target')[0] === 'ACCEPT',
  }
}

export function parseService(text: string): OpeningService {
  const { wordsOf } = readLines(text)
  const destinations = wordsOf('destination')
  const isOther = destinations.length > 0 && !destinations.some((each) => each.startsWith('ipv4:'))
  return {
    // The packets of machines are of IPv4.
    ports: isOther ? [] : wordsOf('ports'),
    protocols: isOther ? [] : wordsOf('protocols'),
    services: wordsOf('includes'),
    isSure: destinations.length === 0,
  }
}

function readLines(text: string) {
  const lines = text.split('\n').map((line) => line.trim())
  const wordsOf = (name: string): string[] => {
    const line = lines.find((each) => each.startsWith(`${name}:`)) ?? ''
    return line
      .slice(name.length + 1)
      .split(/\s+/)
      .filter(Boolean)
  }
  return { lines, wordsOf }
}

export function opens(
  { ports, protocols }: Opening,
  { transport, port }: Pick<Service, 'transport' | 'port'>,
): boolean {
  return protocols.includes(transport) || ports.some((each) => covers(each, transport, port))
}

/** @param text as in `67/udp` or `8000-8100/tcp` */
function covers(text: string, transport: string, port: number): boolean {
  const [, first = '', last = first, protocol] = /^(\d+)(?:-(\d+))?\/(\w+)$/.exec(text) ?? []
  return protocol === transport && Number(first) <= port && port <= Number(last)
}
