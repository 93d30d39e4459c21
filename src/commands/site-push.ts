/** The commands that bring images of this site to another server. */
import { Command } from '@commander-js/extra-typings'

import { NetimageError } from '../errors.ts'
import { plural } from '../progress.ts'
import { saysMachines } from '../says-list.ts'
import type { SiteImage } from '../site/images/site-image.ts'
import type { SentImage } from '../site/push/send.ts'
import { becomeOwner } from './become-owner.ts'
import { jsonOption, stateOption } from './common-options.ts'
import { formatBytes } from './format.ts'
import { openStateToChange } from './open-state.ts'
import { runCommand, type Outcome, type Surroundings } from './run.ts'
import { namesIn } from './site-machine.ts'

export function pushCommand() {
  return describePush().action((server, images, flags) =>
    runCommand(flags, (around) => push(server, images, flags, around)),
  )
}

/** Separate from the action, so that commander infers the type of the flags. */
function describePush() {
  return new Command('push')
    .description('Bring images of this site to the site of another server, over ssh')
    .argument('<server>', 'ssh://[user@]server[:port]')
    .argument(
      '[images...]',
      'names of images, or the beginnings of their ids (default: all that machines of this site keep)',
    )
    .option('--remote-program <command>', 'netimage on the other server (default: netimage)')
    .option('--remote-state <dir>', 'the state directory there (default: as for the user there)')
    .addOption(stateOption)
    .option(...jsonOption)
    .option('-q, --quiet', 'show no progress')
}

type PushFlags = ReturnType<ReturnType<typeof describePush>['opts']>

async function push(
  named: string,
  wanted: readonly string[],
  flags: PushFlags,
  { signal, progress }: Surroundings,
): Promise<Outcome> {
  const { stateDirectory } = await import('../serve/state.ts')
  const { sitePlaces } = await import('../image/site-places.ts')
  const { parseSshUrl, startReceiver } = await import('../site/push/ssh.ts')
  const { sendImages } = await import('../site/push/send.ts')
  const { CutOff } = await import('../site/push/channel.ts')
  const server = parseSshUrl(named)
  const state = stateDirectory(flags.state)
  // Before root becomes the user of the server: this is the person's ssh.
  const receiver = startReceiver(server, {
    ...{ program: flags.remoteProgram, state: flags.remoteState },
    options: process.env['NETIMAGE_SSHOPTS'],
    onLine: (line) => progress.warn(`ssh: ${line}`),
  })
  const { input, output } = receiver
  try {
    becomeOwner(state)
    using images = await openImages(state, wanted, (message) => progress.warn(message))
    const settings = { input, output, signal, progress, server: server.destination }
    const { images: sent, writtenBytes } = await sendImages(images.all, sitePlaces(state), settings)
    await receiver.close()
    return {
      text: sent.map(saysSent).join('\n'),
      json: { server: server.url, images: sent, writtenBytes },
    }
  } catch (error) {
    if (error instanceof CutOff) throw await receiver.whyEnded()
    await receiver.close()
    throw error
  }
}

interface ToSend extends Disposable {
  all: readonly SiteImage[]
}

/** @param wanted as the person names them; none: all that machines keep */
async function openImages(
  state: string,
  wanted: readonly string[],
  warn: (message: string) => void,
): Promise<ToSend> {
  const { chooseSiteImage } = await import('../site/images/choose-image.ts')
  const { imageIds, openSiteImage } = await import('../site/images/site-image.ts')
  const named = wanted.map((name) => chooseSiteImage(state, name).id)
  const ids = named.length > 0 ? named : await keptIds(state, new Set(imageIds(state)), warn)
  using stack = new DisposableStack()
  const all: SiteImage[] = []
  for (const id of new Set(ids)) {
    const image = await openSiteImage(state, id)
    stack.defer(() => image.release())
    all.push(image)
  }
  const held = stack.move()
  return { all, [Symbol.dispose]: () => held.dispose() }
}

async function keptIds(
  state: string,
  there: ReadonlySet<string>,
  warn: (message: string) => void,
): Promise<string[]> {
  const { machinesByImage } = await import('../site/images/users.ts')
  const { shownDigits } = await import('../site/images/choose-image.ts')
  const kept = machinesByImage(state, (error) => {
    throw error
  })
  const names = await namesIn(state)
  for (const [id, machines] of kept) {
    if (there.has(id)) continue
    warn(
      `${saysMachines(machines, names)}: the image ${id.slice(0, shownDigits)} is gone, and is not sent`,
    )
  }
  const ids = [...kept.keys()].filter((id) => there.has(id))
  if (ids.length > 0) return ids
  throw new NetimageError('path-not-found', `no machine of ${state} keeps an image`, {
    details: { file: state },
    hint: 'Name the images to send: netimage site push SERVER IMAGE. List them with: netimage site images.',
  })
}

function saysSent({ id, name, isNew, ...counts }: SentImage): string {
  const { sentPaths, sentBytes, skippedPaths } = counts
  const sent = `sent ${plural(sentPaths, 'store path')} (${formatBytes(sentBytes)})`
  const how = isNew || sentPaths > 0 ? `${sent}, ${skippedPaths} were there` : 'was there already'
  return `${id}  ${name}  ${how}`
}

/** The other end of `push`. It speaks with a program, so stdout is no text for people. */
export function receiveCommand() {
  return new Command('receive')
    .description('Take images from `netimage site push`, which runs this over ssh')
    .addOption(stateOption)
    .action((flags) => runCommand({ quiet: true }, (around) => receive(flags.state, around)))
}

/** How long the sender may do nothing. */
const patienceMs = 10 * 60_000

async function receive(named: string | undefined, { signal }: Surroundings): Promise<undefined> {
  const { receiveImages } = await import('../site/push/receive.ts')
  const { stdin: input, stdout: output } = process
  if (input.isTTY) {
    throw new NetimageError('bad-usage', '`site receive` is not run by a person', {
      hint: 'Run this on the server that has the images: netimage site push ssh://SERVER.',
    })
  }
  // Otherwise this process ends when the sender does, and what is finished would be lost.
  output.removeAllListeners('error')
  const open = () => openStateToChange(named)
  const failure = await receiveImages(open, { input, output, signal, patienceMs })
  // The sender shows it.
  process.exitCode = failure?.exitStatus ?? 0
  input.destroy()
  return undefined
}
