/**
 * The sockets of one server on its interface. A network card that was unplugged comes back under its
 * name, but as another interface to the kernel, which lets nothing more into the sockets of the old
 * one: they are opened anew then.
 */
import { readFileSync } from 'node:fs'

import {
  openDeviceSocket,
  type DeviceSocket,
  type DeviceSocketOptions,
  type Peer,
} from './device-socket.ts'

export interface DeviceSockets {
  /** By the first that has the port. */
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
      // It may not have its address yet.
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
 * The kernel's number of an interface that is up: proc_net_igmp in proc_net(5). Unlike /sys it is of
 * this network namespace.
 */
function indexOf(device: string): number | undefined {
  try {
    const lines = readFileSync('/proc/net/igmp', 'utf8').split('\n')
    const words = lines.map((line) => line.trim().split(/\s+/))
    // The colon behind a name that fills its column stands right behind it.
    const found = words.find(([, name]) => name?.replace(/:$/, '') === device)?.[0]
    return found === undefined ? undefined : Number(found)
  } catch {
    return undefined
  }
}
