/** All shards together: gives each its machines, asks them, and learns from them. */
import type { Socket } from 'node:net'

import type { Boot } from '../../boots/follow.ts'
import { asNetimageError, NetimageError } from '../../errors.ts'
import type { BootTrees, Requester } from '../../protocols/boot-files.ts'
import type { DhcpServerOptions } from '../../protocols/dhcp/server.ts'
import type { ServeEvent } from '../../protocols/event.ts'
import type { Peer } from '../../protocols/tftp/sessions.ts'
import { limitCheap } from '../../protocols/report-limit.ts'
import { remember } from '../../remember.ts'
import { together } from '../../together.ts'
import { isOfPowerCut } from '../../site/life/power-cut.ts'
import { version } from '../../version.ts'
import { parseProcessor } from '../defaults.ts'
import type { Learnt } from '../learnt.ts'
import { macOf } from '../machine-name.ts'
import type { ImageInfo } from '../open-systems.ts'
import type { ServeRequest } from '../request.ts'
import { fromPlain, type FromShard } from '../shard/from-shard.ts'
import type { NamedClient, ShardStart } from '../shard/messages.ts'
import { ownerOf } from '../shard/owner.ts'
import { createLatestBoots } from './latest-boots.ts'
import { startShardProcess, type ShardProcess, type ShardProcessSettings } from './shard-process.ts'

export interface ShardsSettings
  extends Pick<ServeRequest, 'see' | 'onTold' | 'onError'>, Pick<ShardProcessSettings, 'module'> {
  count: number
  /** What all shards are told at their start. */
  start: Omit<ShardStart, 'version' | 'number' | 'count' | 'processors' | 'boots'>
  learnt: Learnt
  isAllowed: (machine: string) => boolean
  /** Called when a machine has done something that takes more than a forged address. */
  onCome: (machine: string) => void
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
  close(): Promise<void>
}

/** All machines wait for the answer together. */
const everyone = 'all machines'
/** Machines that are not served wait in the places of one machine, because their names may be invented. */
const strangers = 'strangers'
/** Those who get no answer ask again after some seconds. */
const answerMs = 2500
/** The end of a shard is told for so many of its boots. */
const maxTold = 64

export function startShards(settings: ShardsSettings): Shards {
  const { count, learnt, isAllowed, see, onTold, onError, onCome, onGiveUp, module } = settings
  const { now = Date.now } = settings
  const latest = createLatestBoots(isAllowed)
  for (const boot of learnt.boots.toReversed()) {
    if (isAllowed(boot.machine)) latest.keep({ ...boot, isFromBefore: true }, true)
  }
  const processors = new Map(learnt.processors)
  /** Each shard has such a limit, too. A host can invent machines of all shards. */
  const mayTellOfStranger = limitCheap(now)
  const shards = Array.from({ length: count }, (_, number) => startShard(number))

  function startShard(number: number): ShardProcess {
    const isOwn = (machine: string) => ownerOf(machine, count) === number
    const ownBoots = () => latest.all().filter(({ machine }) => isOwn(machine))
    const shard = startShardProcess({
      start: () => ({
        ...{ ...settings.start, version, number, count },
        processors: new Map([...processors].filter(([machine]) => isOwn(machine))),
        boots: ownBoots()
          .map(withoutTransfers)
          .toSorted((one, other) => other.started - one.started),
      }),
      onReady({ boots }) {
        for (const boot of boots) if (isOwn(boot.machine)) latest.keep(boot, true)
      },
      onMessage: (message) => void receive(message).catch(onDefect),
      onEnd({ reason, failure, isUpdated, isFailing: isAgain }) {
        if (failure && isUpdated) onGiveUp(failure)
        else if (failure) onError(failure)
        const boots = latest.underWay(now()).filter(({ machine }) => isOwn(machine))
        onError(restarts(`${number + 1} of ${count}`, reason, boots.length))
        for (const boot of boots.slice(0, maxTold)) tellRestart(boot, reason)
        if (!isAgain) return
        // If only some are failing, a machine may be the cause. The machines of the others are served on.
        if (shards.every(({ isFailing }) => isFailing())) onGiveUp(failure ?? allFailing(reason))
        else onError(isFailing(`${number + 1} of ${count}`, failure?.message ?? reason))
      },
      ...(module && { module }),
    })

    /** A message of a shard with a defect must not end the server. */
    const onDefect = (error: unknown) => onError(asNetimageError(error))

    /** A shard with a defect must not speak of the machines of others. */
    async function receive(message: FromShard): Promise<void> {
      switch (message.kind) {
        case 'seen': {
          const { boot, event, at, mayForget } = message
          if (!isOwn(boot.machine)) break
          latest.keep(boot, mayForget)
          if (isAllowed(boot.machine) || mayTellOfStranger(event)) recordAndShow(boot, event, at)
          break
        }
        case 'comes':
          if (isOwn(message.machine)) onCome(message.machine)
          break
        case 'processor': {
          const { machine, fact } = message
          const processor = parseProcessor(fact)
          if (!isOwn(machine) || processor === undefined) break
          remember(processors, machine, processor)
          learnt.facts.keep('processor', machine, fact)
          break
        }
        case 'told':
          if (isOwn(message.told.machine) || isOfPowerCut(message.told)) onTold(message.told)
          break
        case 'error':
          onError(fromPlain(message.error))
          break
        case 'question': {
          const answer =
            message.about === 'machines' ? { machines: latest.all() } : { images: await images() }
          shard.send(everyone, { kind: 'answer', id: message.id, answer })
          break
        }
        default:
          break
      }
    }

    return shard
  }

  function tellRestart(boot: Boot, reason: string): void {
    const { machine, address } = boot
    const clue = { ...macOf(machine), ...(address !== undefined && { address }) }
    recordAndShow(boot, { ...clue, kind: 'server', step: 'restart', reason }, now())
  }

  function recordAndShow(boot: Boot, event: ServeEvent, at: number): void {
    learnt.record.add(boot, event, at, isAllowed(boot.machine))
    see(boot, event, at)
  }

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

  const images = together(askImages)

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
      if (answer === 'no-answer') throw notNow(name)
      if (answer && 'code' in answer) throw fromPlain(answer)
      return answer
    },
    report(event, name, isTold) {
      shardOf(name).send(waitsAs(name), { kind: 'event', event, isTold })
    },
    boots: latest.all,
    async close() {
      await Promise.all(shards.map((shard) => shard.close()))
    },
  }
}

/** Nothing is sent any more if the process has ended. */
function withoutTransfers(boot: Boot): Boot {
  const { sending, ...rest } = boot
  return sending === undefined ? boot : rest
}

/** @param which tells several processes that end at once apart */
function restarts(which: string, reason: string, machines: number): NetimageError {
  const problem = `a process that serves machines has ended, and is started again (${which}): ${reason}`
  const booting = `${machines} of its machines ${machines === 1 ? 'was' : 'were'} booting: see netimage boots.`
  const hints = [
    'Running machines wait and go on by themselves.',
    ...(machines > 0 ? [booting] : []),
  ]
  return new NetimageError('internal', problem, { hint: hints.join(' ') })
}

/** @param which as above */
function isFailing(which: string, reason: string): NetimageError {
  const problem = `a process that serves machines ends again and again (${which}): ${reason}`
  const waits =
    'The next one starts in a minute. Its machines wait until then; all others are served.'
  return new NetimageError('internal', problem, {
    hint: `${waits} The last messages of the process say why it has ended.`,
  })
}

function allFailing(reason: string): NetimageError {
  const problem = `all processes that serve machines end again and again: ${reason}`
  return new NetimageError('internal', problem, {
    hint: 'Their last messages say why. Serve with --workers 0 until the cause is removed.',
  })
}

function notNow(name: string): NetimageError {
  return new NetimageError('in-use', `the process that serves ${name} is busy or starts again`, {
    details: { field: name },
    hint: 'Start the machine again.',
  })
}
