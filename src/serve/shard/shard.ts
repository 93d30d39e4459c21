/**
 * One of the processes that serve the machines. It does for its own machines all that a server does, but
 * it has no socket that listens: the front gives it connections, datagrams and questions.
 */
import type { Socket } from 'node:net'

import { asNetimageError, NetimageError } from '../../errors.ts'
import type { Boot } from '../../boots/follow.ts'
import { createHttpService } from '../../protocols/http/server.ts'
import type { ProcedureCounts } from '../../protocols/nfs/procedure-counts.ts'
import { createNfsService } from '../../protocols/nfs/service.ts'
import { createTftpService } from '../../protocols/tftp/service.ts'
import { listenTftp } from '../../protocols/tftp/socket.ts'
import { createBootFor } from '../boot-answer.ts'
import type { DefaultImage } from '../defaults.ts'
import { createOpenSystems } from '../open-systems.ts'
import { remember } from '../../remember.ts'
import { together } from '../../together.ts'
import { isForData, wire } from '../wire.ts'
import { toPlain, type FromShard } from './from-shard.ts'
import type {
  FrontAnswer,
  NamedClient,
  AnswerHandlers,
  ShardQuestion,
  ShardStart,
  ToShard,
} from './messages.ts'
import { otherMachine } from '../only-own.ts'
import { lockShard } from '../state.ts'
import { ownerOf } from './owner.ts'
import { createQuestions } from './questions.ts'

export interface Shard {
  /** The last boot of each of its machines. */
  boots: readonly Boot[]
  receive(message: ToShard, socket: Socket | undefined): void
  close(): Promise<void>
}

/** @throws `NetimageError` if the shard cannot serve its machines */
export async function startShard(
  start: ShardStart,
  send: (message: FromShard) => void,
): Promise<Shard> {
  const { place, state } = start
  const { address } = place
  const owns = (machine: string) => ownerOf(machine, start.count) === start.number
  await using unfinished = new AsyncDisposableStack()
  const lock = lockShard(state)
  unfinished.defer(() => lock.release())
  const onError = (error: unknown) =>
    send({ kind: 'error', error: toPlain(asNetimageError(error)) })
  const systems = createOpenSystems({ state, http: start.http, onError })
  unfinished.defer(() => systems.close())
  const images: DefaultImage[] = []
  for (const { id, candidate } of start.defaults) {
    images.push({ candidate, open: await systems.openImage(id) })
  }
  const comes = atMostOnceASecond((machine) => send({ kind: 'comes', machine }))
  const wiring = wire(
    {
      ...{ state, place, systems, images, owns, onError },
      ...{ allowed: start.allowed, ephemeral: start.ephemeral, layerSize: start.layerSize },
      learnt: {
        ...{ addresses: start.addresses, processors: start.processors, boots: start.boots },
        // The front records what happens, and the addresses that it finds itself.
        record: { add: () => {} },
        facts: {
          keep(kind, machine, fact) {
            if (kind !== 'address') send({ kind, machine, fact })
          },
        },
      },
      onCome: comes,
      onTold: (told) => send({ kind: 'told', told }),
      see(boot, event, at) {
        const mayForget = !wiring.gate.hasAttempt(boot.machine)
        send({ kind: 'seen', boot, event, at, mayForget })
      },
    },
    unfinished,
  )
  const { identities, treesOf } = wiring
  const common = { ...wiring.common, address }
  const bootFor = createBootFor({ ...wiring, address, onError })

  const nfs = createNfsService({
    ...{ ...wiring.nfs, handleKey: start.handleKey },
    // The name of a connection must not become that of a machine of another shard.
    onEnter: identities.enters,
  })
  unfinished.defer(() => nfs.close())
  // The front receives all requests. This port is only for errors.
  const forErrors = await listenTftp({ address, port: 0, onError }, () => {})
  unfinished.defer(() => forErrors.close())
  const tftp = createTftpService({ ...common, treesOf }, forErrors.send)
  unfinished.defer(() => tftp.close())
  const questions = createQuestions<keyof FrontAnswer, FrontAnswer>()
  questions.begin((id, about) => send({ kind: 'question', id, about }))
  /** Asks the front. @throws `NetimageError` `in-use` if the front does not know it now */
  async function ask<K extends keyof FrontAnswer>(about: K): Promise<NonNullable<FrontAnswer[K]>> {
    const answer = await questions.ask({
      ...{ machine: about, asked: about, withinMs: answerMs },
      parse: (answer) => answer[about],
    })
    if (answer !== 'no-answer' && answer !== undefined) return answer
    throw new NetimageError('in-use', 'a process of the server did not answer in time')
  }
  const http = createHttpService({
    ...{ ...common, treesOf },
    // The front answers all shards, so that no machine may make it answer more often than once at a time.
    knowledge: {
      isFor: isForData(address, common.clientAt),
      machines: together(
        async () => new Map((await ask('machines')).map((boot) => [boot.machine, boot])),
      ),
      images: together(() => ask('images')),
    },
  })
  unfinished.defer(() => http.close())

  /** Learns the name that the front has found. @returns whether it is a machine of this shard */
  function learnName({ address, name }: NamedClient): boolean {
    if (!owns(name)) return false
    if (name.includes(':') && identities.isAllowed(name)) identities.learnAddress(name, address)
    return identities.nameAt(address) === name
  }

  function accept(socket: Socket, { protocol, client }: ToShard & { kind: 'connection' }): void {
    socket.on('error', () => {})
    if (!learnName(client)) socket.destroy()
    else if (protocol === 'nfs') nfs.accept(socket)
    else http.accept(socket)
  }

  let told: ProcedureCounts = {}
  function sendOperations(): void {
    const counts: Record<string, number> = {}
    for (const [name, count = 0] of Object.entries(wiring.operations)) {
      const more = count - (told[name] ?? 0)
      if (more > 0) counts[name] = more
    }
    told = { ...wiring.operations }
    if (Object.keys(counts).length > 0) send({ kind: 'operations', counts })
  }

  const answers: AnswerHandlers = {
    call: ({ bytes, client }) =>
      learnName(client) ? nfs.answerDatagram(bytes, client.address) : undefined,
    boot: ({ machine, asks }) => bootFor(machine, asks),
    async trees({ requester, name }) {
      try {
        if (learnName({ address: requester.address, name })) return await treesOf(requester)
        throw otherMachine(name)
      } catch (error) {
        return toPlain(asNetimageError(error))
      }
    },
    images: () => systems.images(),
  }
  async function answer<K extends ShardQuestion['about']>(id: number, question: ShardQuestion<K>) {
    send({ kind: 'answer', id, answer: await answers[question.about](question) })
  }

  async function receive(message: ToShard, socket: Socket | undefined): Promise<void> {
    switch (message.kind) {
      case 'start':
      case 'close':
        break
      case 'ping':
        sendOperations()
        send({ kind: 'pong', id: message.id })
        break
      case 'connection':
        send({ kind: 'taken' })
        if (socket) accept(socket, message)
        break
      case 'read-request':
        if (learnName(message.client)) tftp.receive(message.bytes, message.from)
        break
      case 'question':
        await answer(message.id, message.question)
        break
      case 'event':
        // Before it is used: an event that ends this process must not end the next one, too.
        send({ kind: 'heard' })
        common.report(message.event, message.isTold)
        break
      case 'answer':
        questions.answered(message)
        break
    }
  }

  const running = unfinished.move()
  return {
    boots: wiring.follower.boots(),
    receive: (message, socket) => void receive(message, socket).catch(onError),
    close: () => running.disposeAsync(),
  }
}

/** The front needs up to half of it for the answers of the shards. */
const answerMs = 5000

/** A machine may do many things in a second, and the front only wants to know that it is there. */
function atMostOnceASecond(tell: (machine: string) => void): (machine: string) => void {
  const told = new Map<string, number>()
  return (machine) => {
    const now = performance.now()
    if (now - (told.get(machine) ?? -Infinity) < 1000) return
    remember(told, machine, now)
    tell(machine)
  }
}
