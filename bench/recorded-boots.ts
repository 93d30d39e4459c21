/** What all benches need that let simulated machines boot: the machines of boot-client.c, their image and their network. */
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import { openNetwork, type Network } from '../test/e2e/support/network.ts'
import type { Workspace } from '../test/support/workspace.ts'
import { linesOfBoards, requestsOf, type Way } from './boot-ways.ts'
import { buildRecordedImage } from './recorded-image.ts'

export interface RecordedBoots {
  /** The program that boots machines. */
  client: string
  image: string
  rootTree: string
  /** The file with the requests of a machine. */
  requests: (way: Way) => string
}

/** Needs a C compiler. @param rootPath of the exported root of each machine */
export async function prepareBoots(
  workspace: Workspace,
  rootPath: string,
  ways: readonly Way[],
): Promise<RecordedBoots> {
  const client = workspace.path('client')
  const source = join(import.meta.dirname, 'boot-client.c')
  execFileSync('cc', ['-O2', '-o', client, source], { stdio: 'inherit' })
  const record = readFileSync(join(import.meta.dirname, 'boot-requests.txt'), 'utf8').split('\n')
  const lines = [...record, ...linesOfBoards]
  const made = await buildRecordedImage(workspace, lines, `10.66.0.1:${rootPath},v3`)
  const requests = (way: Way) => workspace.path(`requests-${way}`)
  for (const way of ways) writeFileSync(requests(way), requestsOf(way, record).join('\n'))
  return { client, ...made, requests }
}

/** The addresses of the machines in the network of `openWideNetwork`. */
export const wide = { subnet: '10.66.0.0/22', range: '10.66.0.20-10.66.3.250' }

/** A network with room for hundreds of machines. Needs root. */
export async function openWideNetwork(name: string): Promise<Network> {
  const network = await openNetwork(name)
  const { server, bridge } = network
  for (const [verb, prefix] of [
    ['del', '24'],
    ['add', '22'],
  ] as const) {
    const address = [`${server}/${prefix}`, 'broadcast', '+', 'dev', bridge]
    await network.run(['ip', 'address', verb, ...address])
  }
  return network
}
