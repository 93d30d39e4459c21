// One of several processes of a server. It has the site open, serves the machines whose names begin with
// its own name, and does what its parent tells it.
//
//     site-process.ts NAME

import { openSite, type Site } from '../../../src/site/site.ts'
import { candidate } from '../life/support/simulate.ts'

export type Order =
  | { do: 'open'; state: string; at: number }
  | { do: 'begin'; machine: string; at: number }
  | { do: 'asks' | 'blesses'; machine: string; at: number }
  | { do: 'tick' | 'close'; at: number }

export interface Done {
  /** By `open`: the machines whose attempts have been interrupted. */
  interrupted: string[]
  /** What the site has told since the last order. */
  told: string[]
  error?: string
}

const [name = ''] = process.argv.slice(2)
const byDefault = candidate('a')
let told: string[] = []
let site: Site | undefined

async function obey(order: Order): Promise<string[]> {
  switch (order.do) {
    case 'open':
      site = openSite({
        ...order,
        owns: (machine) => machine.startsWith(name),
        onTold: ({ machine, kind }) => told.push(`${machine} ${kind}`),
        onError: (error) => told.push(error.message),
      })
      return [...site.interrupted.keys()]
    case 'begin':
      await site?.beginAttempt(order.machine, order.at, { byDefault })
      return []
    case 'asks':
      site?.sign(order.machine, { kind: 'asks' }, order.at)
      return []
    case 'blesses': {
      const bootId = `${order.machine} ${order.at}`
      site?.sign(order.machine, { kind: 'bless', bootId, toplevel: byDefault.toplevel }, order.at)
      return []
    }
    case 'tick':
    case 'close':
      site?.[order.do](order.at)
      return []
  }
}

// The parent sends no order before the answer to the last one.
process.on('message', (order: Order) => {
  told = []
  obey(order).then(
    (interrupted) => process.send?.({ interrupted, told } satisfies Done),
    (error: unknown) => process.send?.({ interrupted: [], told, error: String(error) }),
  )
})
process.send?.('ready')
