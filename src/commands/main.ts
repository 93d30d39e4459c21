/** The command line: every command, and how the program ends. */
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
import { verifyCommand } from './verify.ts'

export async function main(): Promise<void> {
  const program = new Command('netimage')
    .description('Boot NixOS over the network')
    .version(version)
    .exitOverride()

  // All of them are made at every start. The modules that do the work are large: a command's action
  // imports them, so that no command waits for the modules of the others.
  const make = [
    buildCommand,
    inspectCommand,
    checkCommand,
    verifyCommand,
    serversCommand,
    serveCommand,
    bootsCommand,
    layersCommand,
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
      // Commander has said so on stderr already.
      if (process.argv.includes('--json')) printFailure(usageError(error))
      process.exitCode = exitStatus.usage
    }
  }
}

function usageError({ message }: CommanderError): NetimageError {
  return new NetimageError('bad-usage', message.replace(/^error: /, ''))
}
