/**
 * What the file of the site declares of machines, as the server uses it: a machine with several network cards is
 * one machine. It is read again every two seconds, so that no call of a machine waits for the database.
 */
import type { NetimageError } from '../errors.ts'
import { isSameSerial } from '../serial-number.ts'
import type { Declarations } from '../site/declarations.ts'
import type { BrokenRow } from '../site/rows.ts'

export interface Declared {
  /** @param mac any hardware address of the machine, or an IP address @returns the name of the machine */
  machineOf: (mac: string) => string
  /** All hardware addresses of the machine. */
  cardsOf: (machine: string) => readonly string[]
  /** @returns the name of the machine with the serial number */
  ownerOf: (serial: string) => string | undefined
  /** @param machine its name */
  hostNameOf: (machine: string) => string | undefined
  /** IPv4 addresses by hardware address. The same map until it changes. */
  addresses: () => ReadonlyMap<string, string>
}

/** How often declarations are read. Milliseconds. */
const tickMs = 2000

/**
 * @param read may throw: then the declarations stay as they were. So does that of a machine whose row is broken
 * @param onError is told once about each broken row
 */
export function watchDeclarations(
  read: (onBroken: (error: BrokenRow) => void) => Declarations,
  onError: (error: NetimageError) => void,
  unfinished: Pick<AsyncDisposableStack, 'defer'>,
): Declared {
  let glance = ''
  let told: ReadonlySet<string> = new Set()
  let declarations: Declarations = new Map()
  let machines: ReadonlyMap<string, string> = new Map()
  let addresses: ReadonlyMap<string, string> = new Map()

  function look(): void {
    const broken = new Map<string, BrokenRow>()
    let whole: Declarations
    try {
      whole = read((error) => broken.set(error.machine, error))
    } catch {
      // Whoever needs the site tells the error.
      return
    }
    for (const [machine, error] of broken) if (!told.has(machine)) onError(error)
    told = new Set(broken.keys())
    const before = [...declarations].filter(([machine]) => broken.has(machine))
    const now = new Map([...whole, ...before])
    const seen = JSON.stringify([...now])
    if (seen === glance) return
    glance = seen
    declarations = now
    const all = [...now]
    machines = new Map(all.flatMap(([machine, { macs }]) => macs.map((mac) => [mac, machine])))
    addresses = new Map(
      all.flatMap(
        ([
          machine,
          {
            macs: [first = machine],
            address,
          },
        ]) => (address === undefined ? [] : [[first, address]]),
      ),
    )
  }

  look()
  const timer = setInterval(look, tickMs)
  timer.unref()
  unfinished.defer(() => clearInterval(timer))
  return {
    machineOf: (mac) => machines.get(mac) ?? mac,
    cardsOf: (machine) => [...new Set([machine, ...(declarations.get(machine)?.macs ?? [])])],
    ownerOf(serial) {
      const isIts = (one: string) => isSameSerial(one, serial)
      return [...declarations].find(([, { serials }]) => serials.some(isIts))?.[0]
    },
    hostNameOf: (machine) => declarations.get(machine)?.hostName,
    addresses: () => addresses,
  }
}
