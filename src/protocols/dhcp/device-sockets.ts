/**
 * The sockets of one server on its interface. If a network card is unplugged and plugged in again,
 * the kernel makes a new interface with the same name. Sockets of the old interface receive nothing
 * any more, so we open new ones.
 */
import { readFileSync } from 'node:fs'

import {
  openDeviceSocket,
  type DeviceSocket,
  type DeviceSocketOptions,
  type Peer,
} from './device-socket.ts'

export interface DeviceSockets {
  /** Sends from the first socket with this port. */
  send(port: number, bytes: Uint8Array, to: Peer): void
  close(): Promise<void>
}

export type Place = Omit<DeviceSocketOptions, 'onError' | 'device'>

type Opened = AsyncDisposable & { sockets: ReadonlyMap<number, DeviceSocket> }

const lookEveryMs = 1000

/** @throws `NetimageError` `cannot-listen` */
export async function openDeviceSockets(
  device: string,
  places: readonly Place[],
  onError: (error: unknown) => void,
): Promise<DeviceSockets> {
  let index = indexOf(device)
  let current: Opened | undefined = await openAll(device, places, onError)
  let changing: Promise<void> | undefined

  async function openAnew(found: number): Promise<void> {
    try {
      await current?.[Symbol.asyncDispose]()
      current = undefined
      current = await openAll(device, places, onError)
      index = found
    } catch (error) {
      // The new interface may not have its address yet: the next look tries again.
      onError(error)
    }
    changing = undefined
  }

  const timer = setInterval(() => {
    const found = indexOf(device)
    if (found !== undefined && found !== index) changing ??= openAnew(found)
  }, lookEveryMs)

  return {
    send: (port, bytes, to) => current?.sockets.get(port)?.send(bytes, to),
    async close() {
      clearInterval(timer)
      await changing
      await current?.[Symbol.asyncDispose]()
    },
  }
}

async function openAll(
  device: string,
  places: readonly Place[],
  onError: (error: unknown) => void,
): Promise<Opened> {
  await using unfinished = new AsyncDisposableStack()
  const sockets = new Map<number, DeviceSocket>()
  for (const place of places) {
    const socket = await openDeviceSocket({ ...place, device, onError })
    unfinished.defer(() => socket.close())
    if (!sockets.has(place.port)) sockets.set(place.port, socket)
  }
  const running = unfinished.move()
  return { sockets, [Symbol.asyncDispose]: () => running.disposeAsync() }
}

/**
 * The kernel's number of an interface that is up: proc_net_igmp in proc_net(5). Unlike /sys, this
 * file always shows the network namespace of this process.
 */
function indexOf(device: string): number | undefined {
  try {
    const lines = readFileSync('/proc/net/igmp', 'utf8').split('\n')
    const words = lines.map((line) => line.trim().split(/\s+/))
    // If the name fills its column, the colon follows without a space.
    const found = words.find(([, name]) => name?.replace(/:$/, '') === device)?.[0]
    return found === undefined ? undefined : Number(found)
  } catch {
    return undefined
  }
}
