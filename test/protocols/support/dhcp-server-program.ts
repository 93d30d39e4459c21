// The DHCP server as a separate program, for the network namespaces of tests.
//
//     node dhcp-server-program.ts SETTINGS
//
// SETTINGS is JSON with the options of `startDhcpServer`, except: `reservations` is an object,
// `allow` is a list of hardware addresses (default: any), and instead of `bootFor` there are
// `files`, the files of the boot tree, and `http`, the URL of that tree.

import { findLoaders } from '../../../src/boot/loaders.ts'
import { bootAnswer } from '../../../src/serve/boot-answer.ts'
import { startDhcpServer } from '../../../src/protocols/dhcp/server.ts'

const {
  files = [],
  http,
  allow,
  reservations = {},
  ...settings
} = JSON.parse(process.argv[2] ?? '')
/** There are no real files in these tests: the name tells the processor. */
const processorOf = (file: string) => (/arm64|aa64/.test(file) ? 'aarch64' : 'x86_64')
const loaders = findLoaders(new Set<string>(files), processorOf, http)

try {
  await startDhcpServer({
    ...settings,
    reservations: new Map(Object.entries(reservations)),
    allow: ({ mac }) => allow?.includes(mac) ?? true,
    bootFor: async (machine) => bootAnswer(machine, loaders, settings.address),
    report: (event) => void process.stdout.write(`${JSON.stringify(event)}\n`),
    onError: (error) => void process.stdout.write(`error: ${error.message}\n`),
  })
  process.stdout.write('ready\n')
} catch (error) {
  process.stdout.write(`failed: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
}
