// Rules of firewalls as texts. What the kernel does with packets by such rules: firewall.slow.ts

import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import * as fc from 'fast-check'
import { opens, parseService, parseZone } from '../../src/doctor/firewall/firewalld.ts'
import { parseIptables } from '../../src/doctor/firewall/iptables.ts'
import { parseNft } from '../../src/doctor/firewall/nft.ts'
import { firstPacket } from '../../src/doctor/firewall/packet.ts'
import { judge, type BaseChain } from '../../src/doctor/firewall/rules.ts'
import { endsInTime } from '../support/waiting.ts'
import { iptablesRulesets } from './support/rulesets.ts'

const served = {
  name: 'eth0',
  address: '10.66.0.1',
  network: { address: '10.66.0.0', prefix: 24, netmask: '255.255.255.0' },
}

test('a table that may be dormant is not judged: nft 1.0.6 prints no true flags', () => {
  const place = { family: 'inet', table: 'asleep' }
  const withFlags = (flags: unknown) => {
    const chain = { ...place, name: 'c', type: 'filter', hook: 'input', policy: 'drop' }
    const entries = [{ table: { family: 'inet', name: 'asleep', flags } }, { chain }]
    const packet = firstPacket({ transport: 'tcp', port: 80 }, served)
    const found = parseNft(JSON.stringify({ nftables: entries }), served.name) ?? []
    return found.map((each) => judge(each, packet))
  }
  assert.deepEqual(withFlags(undefined), ['drop'])
  assert.deepEqual(withFlags(['owner']), ['drop'])
  assert.deepEqual(withFlags('dormant'), [])
  assert.deepEqual(withFlags('Lester Gooch #5'), ['unknown'])
})

suite('hostile rules', () => {
  const services = ['udp 67', 'udp 69', 'tcp 80', 'tcp 2049'] as const
  const packets = services.map((each) => {
    const [transport, port] = each.split(' ')
    return firstPacket(
      { transport: transport === 'tcp' ? 'tcp' : 'udp', port: Number(port) },
      served,
    )
  })
  const results = ['accept', 'drop', 'unknown']
  const assertJudged = (chains: readonly BaseChain[]) => {
    for (const chain of chains) {
      for (const packet of packets) assert.ok(results.includes(judge(chain, packet)))
    }
  }

  const word = fc.constantFrom(
    ...[
      'tcp',
      'udp',
      'dport',
      'set',
      'range',
      'prefix',
      'concat',
      'elem',
      '@a',
      'a',
      'b',
      '10.0.0.0',
    ],
    ...[0, -1, 1e308, 69, 80, true, null],
  )
  const key = fc.constantFrom(
    ...[
      'match',
      'vmap',
      'jump',
      'goto',
      'accept',
      'xt',
      'op',
      'left',
      'right',
      'meta',
      'key',
      'data',
    ],
    ...[
      'payload',
      'protocol',
      'field',
      'set',
      'range',
      'prefix',
      'addr',
      'len',
      'concat',
      'target',
      '&',
    ],
  )
  const { tree } = fc.letrec<{ tree: unknown }>((tie) => ({
    tree: fc.oneof(
      { maxDepth: 6 },
      word,
      fc.array(tie('tree'), { maxLength: 3 }),
      fc.dictionary(fc.oneof(key, fc.string()).map(String), tie('tree'), { maxKeys: 3 }),
    ),
  }))
  const of = { family: 'inet', table: 't' }
  const base = { ...of, name: 'a', type: 'filter', hook: 'input' }

  test('of nftables end with a judgement', () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(tree, { maxLength: 4 }), { maxLength: 5 }),
        tree,
        (rules, elem) => {
          const entries = [
            ...[
              { chain: base },
              { chain: { ...of, name: 'b' } },
              { set: { ...of, name: 'a', elem } },
            ],
            ...rules.map((expr, index) => ({
              rule: { ...of, chain: index % 2 ? 'b' : 'a', expr },
            })),
          ]
          const chains = parseNft(JSON.stringify({ nftables: entries }), served.name)
          assert.equal(chains?.length, 1)
          assertJudged(chains)
        },
      ),
    )
    fc.assert(fc.property(fc.oneof(fc.string(), fc.json()), (text) => void parseNft(text, 'eth0')))
  })

  test('of nftables that jump to each other and to themselves end in time', () => {
    const names = Array.from({ length: 2000 }, (_, index) => `c${index}`)
    const jumps = names.flatMap((name, index) =>
      [index + 1, index + 2, index, 0].map((to) => ({
        rule: { ...of, chain: name, expr: [{ jump: { target: `c${to}` } }] },
      })),
    )
    const chains = names.map((name, index) => ({ chain: { ...(index ? of : base), name } }))
    const text = JSON.stringify({ nftables: [...chains, ...jumps] })
    endsInTime(() => assertJudged(parseNft(text, 'eth0') ?? []))
  })

  test('of iptables end with a judgement', () => {
    const lines = Object.values(iptablesRulesets)
      .flatMap((text) => text.split('\n'))
      .filter((each) => !each.startsWith('*'))
    const words = lines.flatMap((line) => line.split(' '))
    const line = fc.oneof(
      fc.constantFrom(...lines),
      fc
        .array(fc.oneof(fc.constantFrom(...words), fc.string()))
        .map((each) => `-A INPUT ${each.join(' ')}`),
      fc.string(),
    )
    fc.assert(
      fc.property(fc.array(line), (found) => {
        const text = ['*filter', ':INPUT ACCEPT [0:0]', ...found].join('\n')
        const { chains } = parseIptables(text)
        assert.ok(chains.length > 0)
        assertJudged(chains)
      }),
    )
  })
})

test('a zone of firewalld opens ports, ranges and protocols, and names services', () => {
  // As firewall-cmd of Debian 12 prints it.
  const zone = parseZone(`public (active)
  target: default
  icmp-block-inversion: no
  interfaces: eth0
  sources:
  services: dhcp nfs ssh
  ports: 69/udp 100-120/tcp
  protocols:
  forward: yes
  masquerade: no
  forward-ports:
  source-ports:
  icmp-blocks:
  rich rules:
`)
  const isOpen = (transport: 'tcp' | 'udp', port: number) => opens(zone, { transport, port })
  assert.deepEqual(zone.services, ['dhcp', 'nfs', 'ssh'])
  assert.deepEqual([zone.isPlain, zone.isAccepting], [true, false])
  assert.deepEqual([isOpen('udp', 69), isOpen('tcp', 111)], [true, true])
  assert.deepEqual(
    [isOpen('tcp', 69), isOpen('udp', 111), isOpen('tcp', 80)],
    [false, false, false],
  )
  assert.ok(!parseZone('  rich rules:\n\trule family="ipv4" drop\n').isPlain)
  assert.ok(parseZone('  target: ACCEPT\n').isAccepting)
})

test('a service of firewalld opens ports, includes others, and may be for some addresses only', () => {
  // As firewall-cmd of Debian 12 prints it.
  const text = `netboot
  ports: 69/udp 4011/udp
  protocols:
  source-ports:
  modules:
  destination:
  includes: nfs
  helpers: tftp
`
  const service = parseService(text)
  assert.ok(opens(service, { transport: 'udp', port: 69 }))
  assert.ok(!opens(service, { transport: 'tcp', port: 69 }))
  assert.deepEqual([service.services, service.isSure], [['nfs'], true])
  const multicast = parseService(text.replace('destination:', 'destination: ipv4:224.0.0.251'))
  assert.ok(opens(multicast, { transport: 'udp', port: 69 }))
  assert.ok(!multicast.isSure)
  // As dhcpv6-client, which the zone "public" has.
  const other = parseService(text.replace('destination:', 'destination: ipv6:fe80::/64'))
  assert.ok(!opens(other, { transport: 'udp', port: 69 }))
})
