// Both sides of a push in this process, with streams in place of ssh.

import { PassThrough, type Duplex } from 'node:stream'
import { sitePlaces } from '../../../../src/image/site-places.ts'
import { silentProgress } from '../../../../src/progress.ts'
import { openSiteImage } from '../../../../src/site/images/site-image.ts'
import type { NetimageError } from '../../../../src/errors.ts'
import { receiveImages } from '../../../../src/site/push/receive.ts'
import { sendImages, type Sent } from '../../../../src/site/push/send.ts'

export const person = { kind: 'person', uid: 1000, name: 'alice' } as const

export function receive(
  state: string,
  input: Duplex,
  output: Duplex,
  patienceMs?: number,
): Promise<NetimageError | undefined> {
  const signal = new AbortController().signal
  const open = () => Promise.resolve({ state, person })
  return receiveImages(open, { input, output, signal, patienceMs }).finally(() => {
    output.end()
    input.destroy()
  })
}

export async function send(
  state: string,
  ids: readonly string[],
  input: Duplex,
  output: Duplex,
): Promise<Sent> {
  const images = await Promise.all(ids.map((id) => openSiteImage(state, id)))
  const signal = new AbortController().signal
  const settings = { input, output, signal, progress: silentProgress, server: 'lab2' }
  try {
    return await sendImages(images, sitePlaces(state), settings)
  } finally {
    for (const image of images) image.release()
    output.end()
  }
}

/** @param between changes what the sender sends */
export async function pushBetween(
  from: string,
  ids: readonly string[],
  to: string,
  between: (fromSender: PassThrough) => Duplex = (stream) => stream,
): Promise<{ failure: NetimageError | undefined; sent: PromiseSettledResult<Sent> }> {
  const [out, back] = [new PassThrough(), new PassThrough()]
  const [failure, [sent]] = await Promise.all([
    receive(to, between(out), back),
    Promise.allSettled([send(from, ids, back, out)]),
  ])
  return { failure, sent }
}
