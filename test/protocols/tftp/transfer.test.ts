import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { createBlocks } from '../../../src/protocols/tftp/blocks.ts'
import { decode, encode, type Packet } from '../../../src/protocols/tftp/packet.ts'
import { startTransfer } from '../../../src/protocols/tftp/transfer.ts'
import { simulate, type Fault } from './simulation.ts'

const blockSize = 16

/** The length is often a multiple of the block size. */
const content = fc
  .oneof(
    fc.nat(700),
    fc.nat(40).map((blocks) => blocks * blockSize),
  )
  .map((size) => Buffer.from(Array.from({ length: size }, (_, index) => (index * 7) & 0xff)))

const fault: fc.Arbitrary<Fault> = fc.record({
  isLost: fc.boolean(),
  copies: fc.integer({ min: 1, max: 3 }),
  delay: fc.oneof(fc.constant(0), fc.nat(20), fc.nat(2500)),
})

function blocksIn(bytes: Buffer): number {
  return Math.floor(bytes.length / blockSize) + 1
}

suite('a transfer', () => {
  test('ends with the right bytes if packets are lost, duplicated, late or out of order', () => {
    fc.assert(
      fc.property(
        content,
        fc.integer({ min: 1, max: 9 }),
        fc.boolean(),
        fc.array(fault, { maxLength: 120 }),
        (bytes, windowSize, hasOptions, faults) => {
          const setting = { bytes, blockSize, windowSize, hasOptions, faults, lossesInARow: 3 }
          const { state, received } = simulate(setting)
          assert.equal(state, 'ended')
          assert.ok(received.equals(bytes))
        },
      ),
      { numRuns: 500 },
    )
  })

  test('sends each block once if nothing is lost, even if packets arrive up to three times', () => {
    const doubled = fault.map(({ copies, delay }) => ({ isLost: false, copies, delay: delay % 20 }))
    fc.assert(
      fc.property(content, fc.array(doubled, { maxLength: 200 }), (bytes, faults) => {
        const setting = { bytes, blockSize, windowSize: 1, hasOptions: false, lossesInARow: 0 }
        const { state, dataPackets, timeouts } = simulate({ ...setting, faults })
        assert.equal(state, 'ended')
        assert.equal(timeouts, 0)
        assert.equal(dataPackets, blocksIn(bytes))
      }),
    )
  })

  test('sends a block again only after a timeout', () => {
    fc.assert(
      fc.property(content, fc.array(fault, { maxLength: 120 }), (bytes, faults) => {
        const setting = { bytes, blockSize, windowSize: 1, hasOptions: true, lossesInARow: 3 }
        const { dataPackets, timeouts } = simulate({ ...setting, faults })
        assert.ok(dataPackets <= blocksIn(bytes) + timeouts)
      }),
    )
  })

  test('sends at most one window again each time', () => {
    fc.assert(
      fc.property(content, fc.array(fault, { maxLength: 120 }), (bytes, faults) => {
        const windowSize = 4
        const setting = { bytes, blockSize, windowSize, hasOptions: true, lossesInARow: 3 }
        const { dataPackets, timeouts } = simulate({ ...setting, faults })
        // Each acknowledgment with progress begins a window.
        assert.ok(dataPackets <= windowSize * (blocksIn(bytes) + timeouts))
      }),
    )
  })

  test('doubles the waiting time with each try, and gives up', () => {
    const { sent, transfer } = begin({ windowSize: 1 })
    transfer.receive(encode({ kind: 'ack', block: 1 }), 0)
    assert.deepEqual(times(sent, transfer), [1000, 3000, 7000, 15_000, 23_000, 31_000, 39_000])
    assert.equal(transfer.state, 'failed')
    assert.match(transfer.reason ?? '', /does not answer/)
    assert.equal(sent.at(-1)?.kind, 'error')
  })

  test('waits for the agreed timeout', () => {
    const { sent, transfer } = begin({ windowSize: 1, timeout: 3 })
    transfer.receive(encode({ kind: 'ack', block: 1 }), 0)
    assert.deepEqual(times(sent, transfer).slice(0, 3), [3000, 6000, 9000])
  })

  test('gives up earlier on a client that never answered', () => {
    const { sent, transfer } = begin({ windowSize: 1 })
    assert.deepEqual(times(sent, transfer), [1000, 3000, 7000, 15_000])
    assert.equal(transfer.state, 'failed')
  })

  test('repeats the OACK, and begins when block 0 is acknowledged', () => {
    const { sent, transfer } = begin({ windowSize: 2, hasOptions: true })
    transfer.receive(encode({ kind: 'ack', block: 1 }), 0)
    transfer.tick(1000)
    transfer.requestAgain(1100)
    assert.deepEqual(
      sent.map(({ kind }) => kind),
      ['oack', 'oack', 'oack'],
    )
    transfer.receive(encode({ kind: 'ack', block: 0 }), 1200)
    transfer.receive(encode({ kind: 'ack', block: 0 }), 1201)
    transfer.requestAgain(1300)
    assert.deepEqual(
      sent.slice(3).map((packet) => (packet.kind === 'data' ? packet.block : packet.kind)),
      [1, 2],
    )
  })

  for (const [code, message] of [
    [8, 'options refused'],
    [0, 'Early terminate'],
  ] as const) {
    test(`ends without a failure if the client declines the options (error ${code})`, () => {
      const { sent, transfer } = begin({ windowSize: 1, hasOptions: true })
      transfer.receive(encode({ kind: 'error', code, message }), 0)
      assert.equal(transfer.state, 'declined')
      assert.equal(sent.length, 1)
    })
  }

  test('fails if the client ends it, or sends an unexpected packet', () => {
    const { transfer } = begin({ windowSize: 1 })
    transfer.receive(encode({ kind: 'ack', block: 1 }), 0)
    transfer.receive(encode({ kind: 'error', code: 3, message: 'disk full' }), 0)
    assert.equal(transfer.reason, 'the machine ended the transfer: disk full')

    const other = begin({ windowSize: 1 })
    other.transfer.receive(Buffer.from('no TFTP'), 0)
    assert.equal(other.transfer.state, 'failed')
    assert.deepEqual(other.sent.at(-1)?.kind, 'error')
  })

  test('continues after the last block that the client received in order', () => {
    // [RFC 7440 §4]
    const { sent, transfer } = begin({ windowSize: 4 })
    transfer.receive(encode({ kind: 'ack', block: 4 }), 0)
    transfer.receive(encode({ kind: 'ack', block: 6 }), 0)
    assert.deepEqual(blocksOf(sent), [1, 2, 3, 4, 5, 6, 7, 8, 7, 8, 9, 10])
  })

  test('sends a window once more at once, if the client misses its first block', () => {
    // If an unexpected block arrives, a client acknowledges the last block that came in order.
    const { sent, transfer } = begin({ windowSize: 8, hasOptions: true })
    for (const block of [0, 8, 8]) transfer.receive(encode({ kind: 'ack', block }), 0)
    const window = (first: number) => Array.from({ length: 8 }, (_, index) => first + index)
    assert.deepEqual(blocksOf(sent), [...window(1), ...window(9), ...window(9)])
    // Some clients do this for each unexpected block.
    for (let count = 0; count < 7; count++) transfer.receive(encode({ kind: 'ack', block: 8 }), 0)
    assert.equal(blocksOf(sent).length, 24)
    transfer.receive(encode({ kind: 'ack', block: 16 }), 0)
    assert.deepEqual(blocksOf(sent).slice(24), window(17))
  })

  test('sends only one window again if a block arrives twice', () => {
    const intact = { isLost: false, copies: 1, delay: 0 }
    // The OACK, its acknowledgment, and the first window.
    const faults = [...Array.from({ length: 5 }, () => intact), { ...intact, copies: 2 }]
    const bytes = Buffer.alloc(400 * blockSize)
    const setting = { bytes, blockSize, windowSize: 4, hasOptions: true, lossesInARow: 0 }
    const { state, timeouts, dataPackets } = simulate({ ...setting, faults })
    assert.deepEqual([state, timeouts, dataPackets], ['ended', 0, blocksIn(bytes) + 4])
  })

  test('counts blocks from 65535 on to 0', () => {
    const { sent, transfer } = begin({ windowSize: 1, size: 70_000 * blockSize })
    for (let block = 1; block <= 70_001; block++) {
      transfer.receive(encode({ kind: 'ack', block: block & 0xffff }), 0)
    }
    assert.equal(transfer.state, 'ended')
    assert.deepEqual(blocksOf(sent).slice(65_533, 65_537), [65_534, 65_535, 0, 1])
    assert.equal(sent.length, 70_001)
  })

  test('ends with an error if the file cannot be read', () => {
    const sent: Packet[] = []
    const failing = createBlocks(
      () => {
        throw new Error('the disk is gone')
      },
      blockSize,
      1,
    )
    const transfer = startTransfer(
      {
        blocks: failing,
        agreement: { blockSize, windowSize: 1, timeout: undefined, answer: [] },
        send: (packet) => sent.push(decode(packet) ?? assert.fail()),
      },
      0,
    )
    assert.equal(transfer.state, 'failed')
    assert.deepEqual(sent, [{ kind: 'error', code: 0, message: 'the disk is gone' }])
  })
})

function begin({
  windowSize,
  hasOptions = false,
  timeout,
  size = 1000,
}: {
  windowSize: number
  hasOptions?: boolean
  timeout?: number
  size?: number
}) {
  const sent: Packet[] = []
  let left = size
  const blocks = createBlocks(
    (into) => {
      const filled = Math.min(left, into.length)
      left -= filled
      return filled
    },
    blockSize,
    windowSize,
  )
  const answer = hasOptions ? [{ name: 'blksize', value: '16' }] : []
  const agreement = { blockSize, windowSize, timeout, answer }
  const send = (packet: Buffer) => void sent.push(decode(Buffer.from(packet)) ?? assert.fail())
  return { sent, transfer: startTransfer({ blocks, agreement, send }, 0) }
}

function blocksOf(sent: readonly Packet[]): number[] {
  return sent.flatMap((packet) => (packet.kind === 'data' ? [packet.block] : []))
}

/** The times at which something is sent while nothing arrives, in milliseconds. */
function times(sent: readonly Packet[], transfer: { tick: (now: number) => void }): number[] {
  const found: number[] = []
  for (let now = 0; now < 60_000; now += 100) {
    const before = sent.length
    transfer.tick(now)
    if (sent.length > before) found.push(now)
  }
  return found
}
