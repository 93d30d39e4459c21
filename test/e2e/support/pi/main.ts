// Simulates a Raspberry Pi. The program runs on its own host, whose card `eth0` is up and has no
// address. It prints its steps, and at the end its report in one line.
//
//   main.ts MODEL MAC SERIAL REVISION

import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { findProgram } from '../../../support/packages.ts'
import { getLease } from './dhcp.ts'
import { load } from './loader.ts'
import { modelNames, models } from './models.ts'

const [modelName, mac = '', serial = '', revision = ''] = process.argv.slice(2)
const name = modelNames.find((known) => known === modelName)
if (name === undefined) throw new Error(`The model is "${modelName}": ${modelNames.join(', ')}.`)
const model = models[name]
const board = { mac, serial, revision }

// The loaders accept answers to the address that they do not have yet. Linux accepts these only if
// every address of the network is local; but it must not answer ARP for these addresses.
const ip = (...args: string[]) => execFileSync(findProgram('ip'), args)
const settings = { accept_local: 1, rp_filter: 0, arp_ignore: 1 }
for (const [setting, value] of Object.entries(settings)) {
  for (const device of ['all', 'eth0']) {
    writeFileSync(`/proc/sys/net/ipv4/conf/${device}/${setting}`, String(value))
  }
}
// The board may have been on before.
ip('address', 'flush', 'dev', 'eth0')
ip('route', 'replace', '255.255.255.255/32', 'dev', 'eth0')
ip('route', 'replace', 'local', '0.0.0.0/0', 'dev', 'lo', 'table', 'local')

const lease = await getLease(model, board, say)
say(`address ${lease.address}, TFTP server ${lease.server}`)
ip('route', 'delete', 'local', '0.0.0.0/0', 'dev', 'lo', 'table', 'local')
ip('address', 'add', `${lease.address}/${lease.netmask}`, 'dev', 'eth0')

const report = await load(model, board, lease.server, say)
say(`report ${JSON.stringify({ ...lease, ...report })}`)

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}
