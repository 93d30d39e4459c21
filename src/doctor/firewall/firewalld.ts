/** Reads what `firewall-cmd --zone=ZONE --list-all` prints: firewall-cmd(1). */
import type { Service } from '../services.ts'

/** The ports of firewalld's own services, of those that matter here: /usr/lib/firewalld/services. */
const ports: Readonly<Record<string, readonly string[]>> = {
  dhcp: ['67/udp'],
  'proxy-dhcp': ['4011/udp'],
  tftp: ['69/udp'],
  http: ['80/tcp'],
  nfs: ['2049/tcp'],
  nfs3: ['2049/tcp', '2049/udp'],
  'rpc-bind': ['111/tcp', '111/udp'],
}

export interface Zone {
  isOpen: (service: Pick<Service, 'transport' | 'port'>) => boolean
  /** Rich rules and sources may decide otherwise. */
  isPlain: boolean
}

export function parseZone(text: string): Zone {
  const lines = text.split('\n').map((line) => line.trim())
  const wordsOf = (name: string): string[] => {
    const line = lines.find((each) => each.startsWith(`${name}:`)) ?? ''
    return line
      .slice(name.length + 1)
      .split(/\s+/)
      .filter(Boolean)
  }
  const named = wordsOf('services').flatMap((name) =>
    Object.hasOwn(ports, name) ? (ports[name] ?? []) : [],
  )
  const open = [...named, ...wordsOf('ports')]
  const protocols = wordsOf('protocols')
  const isAccepting = wordsOf('target')[0] === 'ACCEPT'
  const rich = lines.findIndex((line) => line.startsWith('rich rules:'))
  const hasRich = rich >= 0 && lines.slice(rich + 1).some((line) => line.startsWith('rule '))
  return {
    isPlain: !hasRich && wordsOf('sources').length === 0,
    isOpen: ({ transport, port }) =>
      isAccepting ||
      protocols.includes(transport) ||
      open.some((each) => covers(each, transport, port)),
  }
}

/** @param text as in `67/udp` or `8000-8100/tcp` */
function covers(text: string, transport: string, port: number): boolean {
  const [, first = '', last = first, protocol] = /^(\d+)(?:-(\d+))?\/(\w+)$/.exec(text) ?? []
  return protocol === transport && Number(first) <= port && port <= Number(last)
}
