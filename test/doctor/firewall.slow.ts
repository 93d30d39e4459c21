// What the doctor says about a firewall, compared with what the kernel does with packets of another host.

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, suite, test } from 'node:test'
import * as v from 'valibot'
import { openNetwork } from '../e2e/support/network.ts'
import { findProgram } from '../support/packages.ts'
import { waitUntil } from '../support/waiting.ts'
import { findingsSchema, type Finding } from './support/findings.ts'
import { iptablesRulesets, nftRulesets } from './support/rulesets.ts'

const examiner = join(import.meta.dirname, 'support/examine-firewall-program.ts')

/** What a host sends: protocol and port. */
const sent = ['udp 67', 'udp 69', 'udp 111', 'udp 2049', 'tcp 80', 'tcp 111', 'tcp 2049'] as const

const counterOf = (each: string) => `c-${each.replace(' ', '-')}`
const named = sent.map((each) => `counter ${counterOf(each)} { }`).join('\n')
const counting = sent
  .map((each) => `${each.replace(' ', ' dport ')} counter name ${counterOf(each)}`)
  .join('\n')
/** Counts what comes out of the cable, and what is left after all other rules. */
const counters = `
  table netdev arrived {
    ${named}
    chain first {
      type filter hook ingress device "veth0" priority -500;
      ${counting}
    }
  }
  table inet passed {
    ${named}
    chain last {
      type filter hook input priority 500;
      iifname != "BRIDGE" accept
      ${counting}
    }
  }`

const countersSchema = v.object({
  nftables: v.array(
    v.object({
      counter: v.optional(v.object({ table: v.string(), name: v.string(), packets: v.number() })),
    }),
  ),
})

suite('a firewall', async () => {
  const network = await openNetwork('doctor-firewall')
  after(() => network[Symbol.asyncDispose]())
  const host = await network.addHost('52:54:00:00:00:07')
  await host.run(['ip', 'address', 'add', '10.66.0.7/24', 'broadcast', '+', 'dev', 'eth0'])
  const { bridge, server } = network
  const nft = findProgram('nft')
  const shell = (script: string) => network.run(['sh', '-euc', script])

  async function load(program: string, text: string): Promise<void> {
    const file = join(network.directory, 'rules')
    writeFileSync(file, `${text.replaceAll('BRIDGE', bridge)}\n`)
    await shell(`${findProgram(program)} ${program === 'nft' ? '-f' : ''} ${file}`)
  }

  async function reset(): Promise<void> {
    const open =
      '*filter\\n:INPUT ACCEPT [0:0]\\nCOMMIT\\n*raw\\n:PREROUTING ACCEPT [0:0]\\nCOMMIT\\n'
    const mangle = '*mangle\\n:PREROUTING ACCEPT [0:0]\\nCOMMIT\\n'
    await shell(
      `${nft} flush ruleset; printf '${open}${mangle}' | ${findProgram('iptables-legacy-restore')}`,
    )
  }

  /** @returns what the kernel lets through of what the host has sent */
  async function passing(): Promise<string[]> {
    await load('nft', counters)
    const counted = async (table: string) => {
      const listed = JSON.parse(await network.run([nft, '-j', 'list', 'counters']))
      const names = v.parse(countersSchema, listed).nftables.flatMap(({ counter }) => {
        const isSeen = counter?.table === table && counter.packets > 0
        return isSeen ? [counter.name] : []
      })
      return sent.filter((each) => names.includes(counterOf(each)))
    }
    // Each in the background: a connection of which nothing comes back waits.
    const lines = sent.map(
      (each) => `(echo > /dev/${each.replace(' ', `/${server}/`)}) 2>/dev/null &`,
    )
    const sender = host.start('sender', ['bash', '-c', `${lines.join('\n')}\nwait`])
    await waitUntil('all packets have arrived', async () => {
      return (await counted('arrived')).length === sent.length
    })
    const passed = await counted('passed')
    await sender.kill()
    return passed
  }

  async function examine() {
    const command = [process.execPath, examiner, bridge, server, '24']
    return v.parse(findingsSchema, JSON.parse(await network.run(command)))
  }

  function dropped(findings: readonly Finding[]): string[] {
    const told = findings.filter(({ code }) => code === 'firewall').map(({ message }) => message)
    return [...told.join().matchAll(/\b(UDP|TCP) (\d+) \(/g)].map(
      ([, protocol = '', port]) => `${protocol.toLowerCase()} ${port}`,
    )
  }

  const ways = [
    ...Object.entries(nftRulesets).map(([name, text]) => ['nft', name, text] as const),
    ...['iptables-legacy-restore', 'iptables-nft-restore'].flatMap((program) =>
      Object.entries(iptablesRulesets).map(([name, text]) => [program, name, text] as const),
    ),
  ]
  for (const [program, name, text] of ways) {
    test(`by ${program}, ${name}: the doctor knows what the kernel drops`, async () => {
      await reset()
      await load(program, text)
      const findings = await examine()
      assert.deepEqual(
        findings.filter(({ code }) => code !== 'firewall'),
        [],
      )
      // DHCP comes as a broadcast from a host without an address, which this host does not send.
      const unicast = sent.filter((each) => each !== 'udp 67')
      const told = dropped(findings)
      const passed = await passing()
      assert.deepEqual(
        unicast.filter((each) => told.includes(each)),
        unicast.filter((each) => !passed.includes(each)),
      )
      if (name === 'the checks of NixOS') {
        assert.ok(!told.includes('udp 67'))
        assert.match(findings[0]?.fix ?? '', /^networking\.firewall\.interfaces\."enx/)
        return
      }
      for (const { fix } of findings) await shell(fix ?? 'false')
      assert.deepEqual(await examine(), [])
    })
  }

  test('with a rule that depends on what is not known, is not judged', async () => {
    await reset()
    await load(
      'nft',
      'table ip t { chain c { type filter hook input priority 0; tcp dport 80 limit rate 5/second drop; ip saddr 10.66.0.0/25 udp dport 69 drop; }\n}',
    )
    const findings = await examine()
    assert.deepEqual(
      findings.map(({ code }) => code),
      ['firewall-unknown'],
    )
    assert.match(findings[0]?.message ?? '', /^cannot tell .* UDP 69 \(TFTP\), TCP 80 \(HTTP\): /)
  })
})
