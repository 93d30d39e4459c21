// A transfer over a simulated network that loses, duplicates, delays and reorders packets, with a
// simulated clock. The client follows the RFCs, and sends as many acknowledgments as they allow:
// one for every unexpected packet.

import { createBlocks } from '../../../src/protocols/tftp/blocks.ts'
import { decode, encode, type Packet } from '../../../src/protocols/tftp/packet.ts'
import { isOver, startTransfer, type TransferState } from '../../../src/protocols/tftp/transfer.ts'

/** The fate of one packet. Faults are used in the order in which both sides send packets. */
export type Fault = { isLost: boolean; copies: number; delay: number }

export type Setting = {
  bytes: Buffer
  blockSize: number
  windowSize: number
  hasOptions: boolean
  faults: readonly Fault[]
  /** The most packets that are lost in a row without progress. */
  lossesInARow: number
}

export type Outcome = {
  state: TransferState
  received: Buffer
  /** DATA packets that the server sent. */
  dataPackets: number
  timeouts: number
  milliseconds: number
}

const [usualDelay, clientTimeout] = [1, 1500]
const intact: Fault = { isLost: false, copies: 1, delay: 0 }

export function simulate(setting: Setting): Outcome {
  const { bytes, blockSize, windowSize, hasOptions, faults } = setting
  const events: { at: number; run: () => void }[] = []
  let now = 0
  let packets = 0
  let losses = 0
  let [dataPackets, timeouts] = [0, 0]

  function later(delay: number, run: () => void): void {
    events.push({ at: now + delay, run })
  }

  function carry(deliver: () => void): void {
    const { isLost, copies, delay } = faults[packets++] ?? intact
    if (isLost && losses < setting.lossesInARow) {
      losses++
      return
    }
    for (let copy = 0; copy < copies; copy++) later(usualDelay + delay * (copy + 1), deliver)
  }

  const received: Buffer[] = []
  let expected = 1
  let inWindow = 0
  let isDone = false
  let lastHeard = 0

  function acknowledge(): void {
    inWindow = 0
    const packet: Packet = { kind: 'ack', block: (expected - 1) & 0xffff }
    const wire = encode(packet)
    carry(() => {
      const before = transfer.acknowledged
      const state = transfer.state
      transfer.receive(wire, now)
      if (transfer.acknowledged !== before || transfer.state !== state) losses = 0
    })
  }

  function clientReceives(wire: Buffer): void {
    const packet = decode(wire)
    lastHeard = now
    if (packet?.kind === 'oack') acknowledge()
    if (packet?.kind !== 'data') return
    if (packet.block !== (expected & 0xffff) || isDone) {
      acknowledge()
      return
    }
    received.push(Buffer.from(packet.data))
    expected++
    inWindow++
    isDone = packet.data.length < blockSize
    if (isDone || inWindow === windowSize) acknowledge()
  }

  function clientWaits(): void {
    if (now - lastHeard >= clientTimeout && expected > 1 && !isDone) acknowledge()
    if (!isOver(transfer.state)) later(clientTimeout / 3, clientWaits)
  }

  let position = 0
  const blocks = createBlocks(
    (into) => {
      const count = bytes.copy(into, 0, position)
      position += count
      return count
    },
    blockSize,
    windowSize,
  )
  const answer = hasOptions ? [{ name: 'windowsize', value: String(windowSize) }] : []
  const transfer = startTransfer(
    {
      blocks,
      agreement: { blockSize, windowSize, timeout: undefined, answer },
      send: (packet) => {
        const wire = Buffer.from(packet)
        if (decode(wire)?.kind === 'data') dataPackets++
        carry(() => clientReceives(wire))
      },
    },
    now,
  )
  const isFirst = () => hasOptions && transfer.state === 'offered'
  function serverTicks(): void {
    const [before, wasFirst] = [packets, isFirst()]
    transfer.tick(now)
    if (packets > before && !wasFirst) timeouts++
    if (!isOver(transfer.state)) later(100, serverTicks)
  }
  later(100, serverTicks)
  later(clientTimeout / 3, clientWaits)

  while (events.length > 0) {
    let next = 0
    for (const [index, { at }] of events.entries()) if (at < (events[next]?.at ?? 0)) next = index
    const [event] = events.splice(next, 1)
    if (!event) break
    now = event.at
    event.run()
  }
  const milliseconds = now
  return {
    ...{ state: transfer.state, received: Buffer.concat(received) },
    ...{ dataPackets, timeouts, milliseconds },
  }
}
