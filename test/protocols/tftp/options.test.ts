import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { negotiate } from '../../../src/protocols/tftp/options.ts'

/** The request and the answer have the form `blksize=1428 tsize=0`. */
function answerTo(asked: string, size: number | undefined = 1_000_000): string {
  const options = asked.split(' ').map((option) => {
    const [name = '', value = ''] = option.split('=')
    return { name, value }
  })
  return negotiate(options, size)
    .answer.map(({ name, value }) => `${name}=${value}`)
    .join(' ')
}

suite('options of TFTP', () => {
  for (const [asked, answer] of [
    // RFC 2348: 8 to 65464; the answer may be less, never more
    ['blksize=8', 'blksize=8'],
    ['blksize=65464', 'blksize=65464'],
    ['blksize=65465', 'blksize=65464'],
    ['blksize=7', ''],
    ['blksize=0', ''],
    ['blksize=-1', ''],
    ['blksize=1e3', ''],
    ['blksize=', ''],
    ['blksize=99999999999999999999', ''],
    // RFC 2349: 1 to 255, and the answer is equal to the request
    ['timeout=1', 'timeout=1'],
    ['timeout=255', 'timeout=255'],
    ['timeout=0', ''],
    ['timeout=256', ''],
    ['tsize=0', 'tsize=1000000'],
    // RFC 7440: 1 to 65535; the answer may be less
    ['windowsize=1', 'windowsize=1'],
    ['windowsize=64', 'windowsize=64'],
    ['windowsize=0', ''],
    ['windowsize=65536', ''],
    ['windowsize=65535', 'windowsize=512'],
    ['windowsize=65535 blksize=1428', 'windowsize=183 blksize=1428'],
    ['windowsize=16 blksize=65464', 'windowsize=4 blksize=65464'],
    // RFC 2347: any order and any case; unknown options are left out
    ['tsize=0 BLKSIZE=1428 Timeout=5', 'tsize=1000000 BLKSIZE=1428 Timeout=5'],
    ['rollover=0 blksize=1428 multicast= x-unknown=1', 'blksize=1428'],
    ['blksize=512 blksize=1024', 'blksize=512'],
    ['utimeout=100000', ''],
  ] as const) {
    test(`${asked} is answered with ${answer || 'nothing'}`, () => {
      assert.equal(answerTo(asked), answer)
    })
  }

  test('the size is left out if it is not known', () => {
    assert.deepEqual(negotiate([{ name: 'tsize', value: '0' }], undefined).answer, [])
  })

  test('the agreed values are bounded and never more than the request', () => {
    const name = fc.constantFrom('blksize', 'windowsize', 'timeout', 'tsize', 'BlkSize')
    const value = fc.oneof(fc.string(), fc.nat(70_000).map(String), fc.bigInt().map(String))
    const option = fc.record({ name, value })
    fc.assert(
      fc.property(
        fc.uniqueArray(option, { selector: ({ name }) => name.toLowerCase() }),
        (options) => {
          const { blockSize, windowSize, timeout = 1, answer } = negotiate(options, 5)
          assert.ok(blockSize >= 8 && blockSize <= 65464)
          assert.ok(windowSize >= 1 && windowSize <= 512)
          assert.ok(windowSize === 1 || blockSize * windowSize <= 1 << 18)
          assert.ok(timeout >= 1 && timeout <= 255)
          for (const { name: answered, value: agreed } of answer) {
            const asked = options.find((option) => option.name === answered)
            assert.ok(asked)
            assert.ok(answered === 'tsize' || Number(agreed) <= Number(asked.value))
          }
        },
      ),
    )
  })
})
