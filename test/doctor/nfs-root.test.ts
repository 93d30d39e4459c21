import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { examineRoot } from '../../src/doctor/nfs-root.ts'
import { settleOptions } from '../../src/image/options.ts'
import type { DhcpMode, ServePorts } from '../../src/serve/request.ts'

const examined = async (nfsRoot: string, dhcp: DhcpMode = 'proxy', asksNames = true) => {
  const found = await findings(nfsRoot, '127.0.0.1', dhcp, asksNames)
  return found.map(({ code, level }) => [code, level])
}
const findings = async (
  nfsRoot: string,
  address: string,
  dhcp: DhcpMode = 'proxy',
  asksNames = true,
  ports: ServePorts = usualPorts,
) => {
  const options = settleOptions({ nfsRoot }, facts)
  return await examineRoot({ image: 'image', options, dhcp, ports, asksNames }, { address })
}
const usualPorts = { tftp: 69, http: 80, nfs: 2049, portMapper: 111 }
const facts = { label: 'label', platform: 'x86_64-linux', entries: [], fileSystems: [] }

suite('the server in nfsRoot', () => {
  test('is this one, by address or by name', async () => {
    assert.deepEqual(await examined('127.0.0.1:/srv/a,v3'), [])
    assert.deepEqual(await examined('localhost:/srv/a,v3'), [])
  })

  test('is another machine', async () => {
    assert.deepEqual(await examined('192.0.2.77:/srv/a,v3'), [['nfs-root', 'error']])
    assert.deepEqual(await examined('[2001:db8::1]:/srv/a,v3'), [['nfs-root', 'error']])
  })

  test('has a name without an address: this cannot be told', async () => {
    assert.deepEqual(await examined(`${'x'.repeat(64)}:/srv/a,v3`), [['nfs-root', 'note']])
    assert.deepEqual(await examined(`${'x'.repeat(64)}:/srv/a,v3`, 'proxy', false), [])
  })

  test('has a name that means the loopback here, as the own name of Debian: this cannot be told', async () => {
    const [finding, ...more] = await findings('localhost:/srv/a,v3', '192.0.2.1')
    assert.deepEqual([finding?.code, finding?.level, more.length], ['nfs-root', 'note', 0])
    assert.match(finding?.message ?? '', /^cannot tell .*: on this computer, .* 127\.0\.0\.1, /)
    assert.equal(finding?.fix, 'netimage build … --nfs-root 192.0.2.1:/srv/a,v3')
  })

  test('is never a loopback address: each machine would mean itself', async () => {
    for (const address of ['127.0.0.1', '127.0.1.1', '[::1]']) {
      const [finding] = await findings(`${address}:/srv/a,v3`, '192.0.2.1')
      assert.equal(finding?.level, 'error')
      assert.equal(finding?.fix, 'netimage build … --nfs-root 192.0.2.1:/srv/a,v3')
    }
  })

  test('is not named: then it is the DHCP server', async () => {
    assert.deepEqual(await examined('/srv/a,v3'), [['nfs-root', 'warning']])
    assert.deepEqual(await examined('/srv/a,v3', 'full'), [])
  })

  test('has another port, or none that machines can find', async () => {
    const fixes = async (options: string, ports: Partial<ServePorts>) => {
      const all = { ...usualPorts, ...ports }
      const found = await findings(`192.0.2.1:/srv/a,${options}`, '192.0.2.1', 'proxy', true, all)
      return found.map(({ level, message, fix }) => [
        level,
        /2\.1:\S+, (.*), but the server would/.exec(message)?.[1],
        /--nfs-root 192\.0\.2\.1:\/srv\/a,(.*)/.exec(fix ?? '')?.[1],
      ])
    }
    const alone = { nfs: 2050, portMapper: undefined }
    const named = 'v3,nocto,port=2050,mountport=2050'
    assert.deepEqual(await fixes('v3,nocto', { nfs: 2050 }), [])
    assert.deepEqual(await fixes(named, alone), [])
    assert.deepEqual(await fixes('v3,nocto', alone), [
      ['error', 'does not name port and does not name mountport', named],
    ])
    assert.deepEqual(await fixes('v3,nocto,port=2050', alone), [
      ['error', 'does not name mountport', named],
    ])
    assert.deepEqual(await fixes('port=2049,nfsvers=3,nocto', { nfs: 2050 }), [
      ['error', 'has port=2049', named],
    ])
  })

  test('keeps its other options in the command that mends it', async () => {
    const [finding] = await findings('192.0.2.77:/srv/a,v3,nocto,actimeo=600', '192.0.2.1')
    assert.equal(finding?.fix, 'netimage build … --nfs-root 192.0.2.1:/srv/a,v3,nocto,actimeo=600')
  })

  test('would be asked for version 4, which it does not have', async () => {
    assert.deepEqual(await examined('127.0.0.1:/srv/a,v4.2'), [['nfs-version', 'error']])
  })
})
