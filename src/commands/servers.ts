import { renameSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { Argument, Command } from '@commander-js/extra-typings'

import { fileSystemError } from '../errors.ts'
import { makeDirectory } from '../make-directory.ts'
import { serverNames } from '../servers/configure.ts'
import { jsonOption } from './common-options.ts'
import { runCommand } from './run.ts'

export function serversCommand() {
  return new Command('servers')
    .description('Print the configuration of a server for an image')
    .addArgument(new Argument('<server>', 'the server to configure').choices(serverNames))
    .argument('<image>', 'an image that `netimage build` made')
    .option('--write <dir>', 'write the configuration to a file in this directory')
    .option('--address <ip>', 'the server’s address (default: the address in nfsRoot)')
    .option('--interface <name>', 'the server’s network interface')
    .option('--network <cidr>', 'the machines’ network (default: the address with /24)')
    .option(
      '--range <first-last>',
      'give these addresses to machines (default: another DHCP server gives addresses)',
    )
    .option('--http [url]', 'serve the boot tree over HTTP, too (default: at the address)')
    .option(...jsonOption)
    .action((server, image, flags) =>
      runCommand(flags, async () => {
        const { readImage } = await import('../image/manifest.ts')
        const { planServers } = await import('../servers/plan.ts')
        const { serverKinds } = await import('../servers/configure.ts')
        const directory = resolve(image)
        const plan = planServers(directory, await readImage(directory), flags)
        const { fileName, configure } = serverKinds[server]
        const text = configure(plan)
        if (flags.write === undefined) return { json: { server, fileName, text }, text }
        const file = join(resolve(flags.write), fileName)
        writeWhole(file, text)
        return { json: { server, file, text }, text: file }
      }),
    )
}

/** Replaces the file at once, so that no server reads half a file. */
function writeWhole(file: string, text: string): void {
  try {
    makeDirectory(dirname(file))
    const unfinished = `${file}.${process.pid}.tmp`
    writeFileSync(unfinished, text)
    renameSync(unfinished, file)
  } catch (error) {
    throw fileSystemError(`could not write ${file}`, error)
  }
}
