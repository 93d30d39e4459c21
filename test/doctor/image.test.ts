import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { examineClock } from '../../src/doctor/clock.ts'
import { examineRoot } from '../../src/doctor/nfs-root.ts'
import { settleOptions } from '../../src/image/options.ts'

const examined = async (
  nfsRoot: string,
  dhcp: 'proxy' | 'full' | 'off' = 'proxy',
  asksNames = true,
) => {
  const found = await findings(nfsRoot, '127.0.0.1', dhcp, asksNames)
  return found.map(({ code, level }) => [code, level])
}
const findings = async (
  nfsRoot: string,
  address: string,
  dhcp: 'proxy' | 'full' | 'off' = 'proxy',
  asksNames = true,
) => {
  const options = settleOptions({ nfsRoot }, facts)
  return await examineRoot({ image: 'image', options, dhcp, asksNames }, { address })
}
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
    assert.match(finding?.message ?? '', /^cannot tell .*: only on this machine, .* 127\.0\.0\.1$/)
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

  test('would be asked for version 4, which it does not have', async () => {
    assert.deepEqual(await examined('127.0.0.1:/srv/a,v4.2'), [['nfs-version', 'error']])
  })
})

test('a clock that is behind is found by its year or by an image', () => {
  const at = (text: string) => Date.parse(text)
  const image = { image: 'image', changedMs: at('2026-05-01T00:00:00Z') }
  assert.match(examineClock([], at('1970-01-01T00:01:00Z'))[0]?.message ?? '', /before 2024/)
  assert.match(examineClock([image], at('2026-04-30'))[0]?.message ?? '', /image was made later/)
  assert.deepEqual(examineClock([image], at('2026-05-01T00:00:00Z')), [])
})
