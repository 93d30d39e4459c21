/** All shards together: gives each its machines, asks them, and learns from them. */
import type { Socket } from 'node:net'

import type { Boot } from '../../boots/follow.ts'
import type { NetimageError } from '../../errors.ts'
import type { BootTrees, Requester } from '../../protocols/boot-files.ts'
import type { DhcpServerOptions } from '../../protocols/dhcp/server.ts'
import type { ServeEvent } from '../../protocols/event.ts'
import { addCounts, type ProcedureCounts } from '../../protocols/nfs/procedure-counts.ts'
import { limitCheap } from '../../protocols/report-limit.ts'
import type { Peer } from '../../protocols/tftp/sessions.ts'
import { together } from '../../together.ts'
import { askAgain } from '../ask-again.ts'
import type { Learnt } from '../learnt.ts'
import type { ImageInfo } from '../open-systems.ts'
import type { ServeRequest } from '../request.ts'
import { fromPlain } from '../shard/from-shard.ts'
import type { NamedClient } from '../shard/messages.ts'
import { ownerOf } from '../shard/owner.ts'
import { allEndAgainAndAgain, endsAgainAndAgain } from './failures.ts'
import { createLatestBoots } from './latest-boots.ts'
import { createLostEvents } from './lost-events.ts'
import { everyone, startOneShard, type OneShardSettings } from './one-shard.ts'
import type { ShardProcess } from './shard-process.ts'

export interface ShardsSettings
  extends
    Pick<ServeRequest, 'see'>,
    Pick<OneShardSettings, 'count' | 'start' | 'module' | 'onTold' | 'onError' | 'onCome'> {
  learnt: Learnt
  isAllowed: (machine: string) => boolean
  /** Called if all shards end again and again, or netimage was updated. */
  onGiveUp: (error: NetimageError) => void
  /** Milliseconds since 1970. */
  now?: () => number
}

export interface Shards {
  /** Resolves when all serve their machines. @throws `NetimageError` */
  ready: Promise<void>
  /** Gives a connection away, from which nothing was read. */
  connect(protocol: 'nfs' | 'http', client: NamedClient, socket: Socket): void
  /** Gives a read request of TFTP away. */
  read(bytes: Buffer, from: Peer, client: NamedClient): void
  /** @returns the reply to a call of MOUNT in a datagram; undefined: there is none */
  call(bytes: Buffer, client: NamedClient): Promise<Buffer | undefined>
  bootFor: DhcpServerOptions['bootFor']
  /** @throws `NetimageError` if the files of the machine cannot be served now */
  treesOf(requester: Requester, name: string): Promise<BootTrees | undefined>
  /** Gives each event of a machine to its shard. See `Report`. */
  report(event: ServeEvent, name: string, isTold: boolean): void
  /** The last boot of each machine. */
  boots: () => Boot[]
  /** See `Server`. */
  operations: () => ProcedureCounts
  close(): Promise<void>
}

/** Machines that are not served wait in the places of one machine, because their names may be invented. */
const strangers = 'strangers'
/** Those who get no answer ask again after some seconds. */
const answerMs = 2500

export function startShards(settings: ShardsSettings): Shards {
  const { count, learnt, isAllowed, onError, onGiveUp, now = Date.now } = settings
  const latest = createLatestBoots(isAllowed)
  for (const boot of learnt.boots.toReversed()) {
    if (isAllowed(boot.machine)) latest.keep({ ...boot, isFromBefore: true }, true)
  }
  /** Each shard has such a limit, too. A host can invent machines of all shards. */
  const mayTellOfStranger = limitCheap(now)
  const lost = createLostEvents(onError)
  const operations: ProcedureCounts = {}
  const shared = {
    onOperations: (counts: ProcedureCounts) => addCounts(operations, counts),
    ...{ ...settings, facts: learnt.facts, latest, processors: new Map(learnt.processors), now },
    images: together(askImages),
    mayTell: ({ machine }: Boot, event: ServeEvent) =>
      isAllowed(machine) || mayTellOfStranger(event),
    tell(boot: Boot, event: ServeEvent, at: number) {
      learnt.record.add(boot, event, at, isAllowed(boot.machine))
      settings.see(boot, event, at)
    },
    onUpdated: onGiveUp,
  }
  const shards = Array.from({ length: count }, (_, number) =>
    startOneShard({
      ...{ ...shared, number },
      onFailing({ reason, failure }) {
        // If only some are failing, a machine may be the cause. The machines of the others are served on.
        if (shards.every(({ isFailing }) => isFailing())) {
          onGiveUp(failure ?? allEndAgainAndAgain(reason))
        } else {
          onError(endsAgainAndAgain(`${number + 1} of ${count}`, failure?.message ?? reason))
        }
      },
    }),
  )

  /** @returns undefined if a shard does not answer */
  async function askImages(): Promise<ImageInfo[] | undefined> {
    const answers = await Promise.all(
      shards.map((shard) => shard.ask(everyone, { about: 'images' }, answerMs)),
    )
    const known = new Map<string, ImageInfo>()
    for (const answer of answers) {
      if (answer === 'no-answer') return undefined
      for (const image of answer) known.set(JSON.stringify(image), image)
    }
    return [...known.values()]
  }

  const waitsAs = (name: string) => (isAllowed(name) ? name : strangers)
  function shardOf(name: string): ShardProcess {
    const shard = shards[ownerOf(name, count)]
    if (!shard) throw new RangeError(`there is no shard for ${name}`)
    return shard
  }

  return {
    ready: Promise.all(shards.map(({ ready }) => ready)).then(() => {}),
    connect: (protocol, client, socket) =>
      shardOf(client.name).connect(
        waitsAs(client.name),
        { kind: 'connection', protocol, client },
        socket,
      ),
    read(bytes, from, client) {
      const { name } = client
      shardOf(name).send(waitsAs(name), { kind: 'read-request', bytes, from, client })
    },
    async call(bytes, client) {
      const { name } = client
      const answer = await shardOf(name).ask(waitsAs(name), { about: 'call', bytes, client })
      return answer === 'no-answer' ? undefined : answer
    },
    async bootFor(machine, asks) {
      const { mac } = machine
      const answer = await shardOf(mac).ask(waitsAs(mac), { about: 'boot', machine, asks })
      // There is no answer then, and the machine asks again.
      return answer === 'no-answer' ? await new Promise<never>(() => {}) : answer
    },
    async treesOf(requester, name) {
      const ask = () =>
        shardOf(name).ask(waitsAs(name), { about: 'trees', requester, name }, answerMs)
      const first = await ask()
      // A refusal would end the boot of the machine, so another process is asked.
      const answer = first === 'no-answer' ? await ask() : first
      if (answer === 'no-answer')
        throw askAgain(`the process that serves ${name} is busy or starts again`, name)
      if (answer && 'code' in answer) throw fromPlain(answer)
      return answer
    },
    report(event, name, isTold) {
      const isKept = shardOf(name).send(waitsAs(name), { kind: 'event', event, isTold })
      if (!isKept && isAllowed(name)) lost.lose()
    },
    boots: latest.all,
    operations: () => operations,
    async close() {
      lost.close()
      await Promise.all(shards.map((shard) => shard.close()))
    },
  }
}
