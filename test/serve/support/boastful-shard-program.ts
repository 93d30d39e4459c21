// A shard that speaks of all machines, as if they were its own. All that it says carries its number. If it
// learns of an HTTP request, it tells of very many such requests.

import type { Boot } from '../../../src/boots/follow.ts'
import type { FileEvent } from '../../../src/protocols/event.ts'
import type { FromShard } from '../../../src/serve/shard/from-shard.ts'
import type { ShardStart, ToShard } from '../../../src/serve/shard/messages.ts'

process.once('disconnect', () => process.exit())
const send = (message: FromShard) => process.send?.(message)
let machines: readonly string[] = []

function boast({ number, addresses }: ShardStart): void {
  const machines = [...addresses.values()]
  const boots = machines.map((machine): Boot => ({
    ...{ machine, started: 0, step: 'kernel', steps: {}, lastSign: Date.now(), bytes: number },
  }))
  send({ kind: 'ready', boots })
  for (const machine of machines) {
    send({ kind: 'comes', machine })
    send({ kind: 'processor', machine, fact: `${number}` })
    send({ kind: 'told', told: { machine, kind: 'good', generation: number } })
    send({ kind: 'told', told: { machine, kind: 'attempt void', generation: number } })
    const cut = { machine, generation: number, why: 'power-cut' } as const
    send({ kind: 'told', told: { ...cut, kind: 'attempt void' } })
    send({ kind: 'told', told: { ...cut, kind: 'taken back' } })
    send({ kind: 'told', told: { ...cut, kind: 'bad' } })
  }
  for (const boot of boots) {
    const event = { kind: 'root', step: 'init', address: '127.0.0.1' } as const
    send({ kind: 'seen', boot, event, at: boot.lastSign, mayForget: false })
  }
  say(`shard ${number} has said all`)
}

function tellOften(event: FileEvent, machines: readonly string[]): void {
  const boot = { started: 0, step: 'kernel', steps: {}, lastSign: 0, bytes: 0 } as const
  for (let count = 0; count < 100; count++)
    for (const machine of machines)
      send({ kind: 'seen', boot: { ...boot, machine }, event, at: 0, mayForget: true })
  say('has told all')
}

function say(message: string): void {
  send({ kind: 'error', error: { code: 'internal', message, hint: undefined, details: {} } })
}

function askTwice(): void {
  send({ kind: 'question', id: 1, about: 'images' })
  send({ kind: 'question', id: 2, about: 'images' })
}

process.on('message', (message: ToShard) => {
  if (message.kind === 'start') {
    machines = [...message.start.addresses.values()]
    boast(message.start)
  } else if (message.kind === 'ping') send({ kind: 'pong', id: message.id })
  else if (message.kind === 'event') {
    const { event } = message
    send({ kind: 'heard' })
    if (event.kind === 'http') tellOften(event, machines)
    else if (message.isTold) process.exit(7)
    else askTwice()
  } else if (message.kind === 'question') say(`is asked for its ${message.question.about}`)
  else if (message.kind === 'read-request') {
    if (message.bytes.length === 0) say('has heard all')
  } else if (message.kind === 'answer') say(`all images: ${JSON.stringify(message.answer.images)}`)
  else if (message.kind === 'close') process.exit()
})
