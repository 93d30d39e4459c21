/** The command line: adds every command, and sets the exit status. */
import { Command, CommanderError } from '@commander-js/extra-typings'

import { exitStatus, NetimageError } from '../errors.ts'
import { version } from '../version.ts'
import { ignoreClosedPipe, printFailure, report } from './run.ts'

/** Each command is a module of its own, with the modules that it needs. */
const commands = {
  build: async () => (await import('./build.ts')).buildCommand(),
  inspect: async () => (await import('./inspect.ts')).inspectCommand(),
  check: async () => (await import('./check.ts')).checkCommand(),
  verify: async () => (await import('./verify.ts')).verifyCommand(),
  servers: async () => (await import('./servers.ts')).serversCommand(),
  serve: async () => (await import('./serve.ts')).serveCommand(),
  doctor: async () => (await import('./doctor.ts')).doctorCommand(),
  boots: async () => (await import('./boots.ts')).bootsCommand(),
  layers: async () => (await import('./layers.ts')).layersCommand(),
  site: async () => (await import('./site.ts')).siteCommand(),
  gc: async () => (await import('./gc.ts')).gcCommand(),
}

/**
 * Loading all commands takes most of the time of a short one. All are needed for the help, and if no
 * command has the name.
 *
 * @param name the only command that is needed
 */
export async function loadProgram(name?: string) {
  const program = new Command('netimage')
    .description('Boot NixOS over the network')
    .version(version)
    .exitOverride()
  const wanted = Object.entries(commands).filter(([each]) => each === name)
  for (const [, load] of wanted.length > 0 ? wanted : Object.entries(commands)) {
    program.addCommand((await load()).exitOverride())
  }
  return program
}

export async function main(): Promise<void> {
  const program = await loadProgram(process.argv[2])
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
