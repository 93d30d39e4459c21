/** One shard: its machines, what it is told at its start, and what is learnt from its messages. */
import type { Boot } from '../../boots/follow.ts'
import { asNetimageError, type NetimageError } from '../../errors.ts'
import type { ServeEvent } from '../../protocols/event.ts'
import type { ProcedureCounts } from '../../protocols/nfs/procedure-counts.ts'
import { remember } from '../../remember.ts'
import { parseSerial } from '../../serial-number.ts'
import { isOfPowerCut } from '../../site/life/power-cut.ts'
import { version } from '../../version.ts'
import { parseProcessor, type Processor } from '../defaults.ts'
import type { Learnt } from '../learnt.ts'
import { macOf } from '../machine-name.ts'
import type { ImageInfo } from '../open-systems.ts'
import type { ServeRequest } from '../request.ts'
import { fromPlain, type FromShard } from '../shard/from-shard.ts'
import type { ShardStart } from '../shard/messages.ts'
import { ownerOf } from '../shard/owner.ts'
import { isStartedAgain } from './failures.ts'
import type { LatestBoots } from './latest-boots.ts'
import type { End } from './one-process.ts'
import { startShardProcess, type ShardProcess, type ShardProcessSettings } from './shard-process.ts'

export interface OneShardSettings
  extends Pick<ServeRequest, 'onTold' | 'onError'>, Pick<ShardProcessSettings, 'module'> {
  /** From 0. */
  number: number
  /** How many shards there are. */
  count: number
  /** What all shards are told at their start. */
  start: Omit<ShardStart, 'version' | 'number' | 'count' | 'processors' | 'boots'>
  facts: Learnt['facts']
  /** Of all machines. */
  latest: LatestBoots
  /** Of all machines. */
  processors: Map<string, Processor>
  /** The images of all shards; undefined: they are not known now. */
  images: () => Promise<readonly ImageInfo[] | undefined>
  /** Records and shows what happens to its machines. */
  tell: (boot: Boot, event: ServeEvent, at: number) => void
  /** Whether what a machine did is to be told. */
  mayTell: (boot: Boot, event: ServeEvent) => boolean
  /** Called when a machine has done something that takes more than a forged address. */
  onCome: (machine: string) => void
  /** Called with the operations of NFS that are new. */
  onOperations: (counts: ProcedureCounts) => void
  /** Called if netimage was updated, so that the shard cannot start again. */
  onUpdated: (error: NetimageError) => void
  /** Called if the shard ends again and again, so that it starts again after a long pause. */
  onFailing: (end: End) => void
  /** Milliseconds since 1970. */
  now: () => number
}

/** The end of a shard is told for so many of its boots. */
const maxTold = 64

/** All machines wait for the answer together. */
export const everyone = 'all machines'

export function startOneShard(settings: OneShardSettings): ShardProcess {
  const { number, count, latest, processors, tell, mayTell, onError, module, now } = settings
  const isOwn = (machine: string) => ownerOf(machine, count) === number
  const shard = startShardProcess({
    ...(module && { module }),
    start: () => ({
      ...{ ...settings.start, version, number, count },
      processors: new Map([...processors].filter(([machine]) => isOwn(machine))),
      boots: latest
        .all()
        .filter(({ machine }) => isOwn(machine))
        .map(withoutTransfers)
        .toSorted((one, other) => other.started - one.started),
    }),
    onReady({ boots }) {
      for (const boot of boots) if (isOwn(boot.machine)) latest.keep(boot, true)
    },
    onMessage: (message) => void receive(message).catch(onDefect),
    onEnd(end) {
      const { reason, failure, isUpdated } = end
      if (failure && isUpdated) settings.onUpdated(failure)
      else if (failure) onError(failure)
      const boots = latest.underWay(now()).filter(({ machine }) => isOwn(machine))
      onError(isStartedAgain(`${number + 1} of ${count}`, reason, boots.length))
      for (const boot of boots.slice(0, maxTold)) tell(boot, restartOf(boot, reason), now())
      if (shard.isFailing()) settings.onFailing(end)
    },
  })

  /** A message of a shard with a defect must not end the server. */
  const onDefect = (error: unknown) => onError(asNetimageError(error))

  async function receive(message: FromShard): Promise<void> {
    const machine = machineOf(message)
    // A shard with a defect must not speak of the machines of others.
    if (machine !== undefined && !isOwn(machine) && !isPowerCut(message)) return
    switch (message.kind) {
      case 'seen': {
        const { boot, event, at, mayForget } = message
        latest.keep(boot, mayForget)
        if (mayTell(boot, event)) tell(boot, event, at)
        break
      }
      case 'comes':
        settings.onCome(message.machine)
        break
      case 'processor': {
        const { machine, fact } = message
        const processor = parseProcessor(fact)
        if (processor === undefined) break
        remember(processors, machine, processor)
        settings.facts.keep('processor', machine, fact)
        break
      }
      case 'serial': {
        const { machine, fact } = message
        const serial = parseSerial(fact)
        if (serial !== undefined) settings.facts.keep('serial', machine, serial)
        break
      }
      case 'told':
        settings.onTold(message.told)
        break
      case 'operations':
        settings.onOperations(message.counts)
        break
      case 'error':
        onError(fromPlain(message.error))
        break
      case 'question': {
        const answer =
          message.about === 'machines'
            ? { machines: latest.all() }
            : { images: await settings.images() }
        shard.send(everyone, { kind: 'answer', id: message.id, answer })
        break
      }
      default:
        break
    }
  }

  return shard
}

/** @returns the machine that the message is about, if there is one */
function machineOf(message: FromShard): string | undefined {
  switch (message.kind) {
    case 'seen':
      return message.boot.machine
    case 'told':
      return message.told.machine
    case 'comes':
    case 'processor':
    case 'serial':
      return message.machine
    default:
      return undefined
  }
}

/** One shard tells of it for the machines of all. */
function isPowerCut(message: FromShard): boolean {
  return message.kind === 'told' && isOfPowerCut(message.told)
}

/** Nothing is sent any more if the process has ended. */
function withoutTransfers(boot: Boot): Boot {
  const { sending, ...rest } = boot
  return sending === undefined ? boot : rest
}

function restartOf({ machine, address }: Boot, reason: string): ServeEvent {
  const clue = { ...macOf(machine), ...(address !== undefined && { address }) }
  return { ...clue, kind: 'server', step: 'restart', reason }
}
