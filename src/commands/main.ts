/** The command line: adds every command, and sets the exit status. */
import { Command, CommanderError } from '@commander-js/extra-typings'

import { exitStatus, NetimageError } from '../errors.ts'
import { version } from '../version.ts'
import { bootsCommand } from './boots.ts'
import { buildCommand } from './build.ts'
import { checkCommand } from './check.ts'
import { gcCommand } from './gc.ts'
import { inspectCommand } from './inspect.ts'
import { layersCommand } from './layers.ts'
import { ignoreClosedPipe, printFailure, report } from './run.ts'
import { serveCommand } from './serve.ts'
import { serversCommand } from './servers.ts'
import { siteCommand } from './site.ts'
import { verifyCommand } from './verify.ts'

export async function main(): Promise<void> {
  const program = new Command('netimage')
    .description('Boot NixOS over the network')
    .version(version)
    .exitOverride()

  // Every start makes all commands. The modules that do the work are large, so the action of a
  // command imports them: no command loads the modules of another.
  const make = [
    buildCommand,
    inspectCommand,
    checkCommand,
    verifyCommand,
    serversCommand,
    serveCommand,
    bootsCommand,
    layersCommand,
    siteCommand,
    gcCommand,
  ]
  for (const command of make) program.addCommand(command().exitOverride())

  ignoreClosedPipe()
  try {
    await program.parseAsync()
  } catch (error) {
    if (!(error instanceof CommanderError)) report(error, false)
    else if (error.exitCode === 0) process.exitCode = 0
    else {
      // Commander has already printed the message on stderr.
      if (process.argv.includes('--json')) printFailure(usageError(error))
      process.exitCode = exitStatus.usage
    }
  }
}

function usageError({ message }: CommanderError): NetimageError {
  return new NetimageError('bad-usage', message.replace(/^error: /, ''))
}
