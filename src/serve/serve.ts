/** Runs all servers that a machine without a disk needs, from power-on to its root. */
import type { NetimageError } from '../errors.ts'
import { findInterface, type ServedInterface } from '../protocols/interfaces.ts'
import { startAlone } from './alone.ts'
import type { DefaultImage } from './defaults.ts'
import { startFront } from './front/front.ts'
import { addDefaults } from './images.ts'
import { openLearnt } from './learnt.ts'
import { createOpenSystems } from './open-systems.ts'
import { addressChanged, watchAddress } from './own-address.ts'
import type { ServeRequest } from './request.ts'
import { startRollouts } from './rollouts.ts'
import type { Server } from './server.ts'
import { handleKey, lockState, openState, waitForOldShards } from './state.ts'

export interface Serving {
  interface: ServedInterface
  /** The images that machines boot if nobody chose anything for them. */
  images: readonly DefaultImage['open'][]
  ports: Server['ports']
  boots: Server['boots']
  operations: Server['operations']
  /** Resolves if machines cannot be served any more: the interface has lost the address. */
  lost: Promise<NetimageError>
  close: () => Promise<void>
}

/** @throws `NetimageError` if an image or the state cannot be read, or a port cannot be used */
export async function serve(request: ServeRequest, signal?: AbortSignal): Promise<Serving> {
  const { state, onError } = request
  const place = findInterface(request)
  const { address } = place
  const http = `http://${address}${request.ports.http === 80 ? '' : `:${request.ports.http}`}/`
  await using unfinished = new AsyncDisposableStack()
  openState(state)
  const lock = lockState(state)
  unfinished.defer(() => lock.release())
  await waitForOldShards(state, signal)
  const key = handleKey(state)
  const systems = createOpenSystems({ state, http, onError })
  unfinished.defer(() => systems.close())
  const images = await addDefaults(request, systems, signal)
  const learnt = openLearnt(state, onError, unfinished)
  const rollouts = await startRollouts({ state, onTold: request.onRollout ?? (() => {}), onError })
  unfinished.defer(() => rollouts.close())
  const settings = { request, place, http, images, learnt, handleKey: key, signal }
  const server =
    (request.shards ?? 0) > 0
      ? await startFront(settings, unfinished)
      : await startAlone({ ...settings, systems }, unfinished)

  const lost = Promise.withResolvers<NetimageError>()
  const isChosen = request.address !== undefined
  unfinished.use(
    watchAddress(place, (addresses) => {
      const error = addressChanged(place, addresses, isChosen)
      if (isChosen) onError(error)
      else lost.resolve(error)
    }),
  )

  const running = unfinished.move()
  return {
    interface: place,
    images: images.map(({ open }) => open),
    ports: server.ports,
    boots: server.boots,
    operations: server.operations,
    lost: Promise.race([lost.promise, server.lost]),
    close: () => running.disposeAsync(),
  }
}
