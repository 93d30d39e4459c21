/** Reads what `firewall-cmd` prints of zones (`--list-all`) and services (`--info-service`): firewall-cmd(1). */
import type { Service } from '../services.ts'

/** What a zone or a service opens. */
export interface Opening {
  ports: readonly string[]
  protocols: readonly string[]
  /** The names of services that it opens as well. */
  services: readonly string[]
  /** Whether more than this decides: rich rules, sources, destinations, or a target. */
  isPlain: boolean
}

export interface Zone extends Opening {
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

export function parseService(text: string): Opening {
  const { wordsOf } = readLines(text)
  const hasDestination = wordsOf('destination').length > 0
  return {
    // A service with a destination opens its ports only for some addresses.
    ports: hasDestination ? [] : wordsOf('ports'),
    protocols: hasDestination ? [] : wordsOf('protocols'),
    services: wordsOf('includes'),
    isPlain: !hasDestination,
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
