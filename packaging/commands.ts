/** The commands as data, from their own definitions. Manual pages and completions are made from it. */
import type { CommandUnknownOpts, Option } from '@commander-js/extra-typings'

import { loadProgram } from '../src/commands/main.ts'

export type DescribedCommand = {
  /** `netimage`, `site`, `plan` */
  words: readonly string[]
  summary: string
  /** `netimage site name [options] <machine> <name>` */
  usage: string
  arguments: readonly DescribedArgument[]
  options: readonly DescribedOption[]
  commands: readonly DescribedCommand[]
}

export type DescribedArgument = {
  name: string
  description: string
  isVariadic: boolean
  choices: readonly string[]
}

export type DescribedOption = {
  /** Without dashes; empty if there is no short form. */
  short: string
  /** Without dashes. */
  long: string
  description: string
  /** undefined if the option takes no value */
  value: { name: string; choices: readonly string[] } | undefined
}

export async function describeProgram(): Promise<DescribedCommand> {
  return describe(await loadProgram(), [])
}

/** The command and all below it. */
export function allCommands(command: DescribedCommand): DescribedCommand[] {
  return [command, ...command.commands.flatMap(allCommands)]
}

function describe(command: CommandUnknownOpts, above: readonly string[]): DescribedCommand {
  const help = command.createHelp()
  const words = [...above, command.name()]
  return {
    words,
    summary: command.description(),
    usage: help.commandUsage(command),
    arguments: command.registeredArguments.map((argument) => ({
      name: argument.name(),
      description: help.argumentDescription(argument),
      isVariadic: argument.variadic,
      choices: argument.argChoices ?? [],
    })),
    options: help.visibleOptions(command).map((option) => ({
      short: option.short?.slice(1) ?? '',
      long: option.long?.slice(2) ?? '',
      description: help.optionDescription(option),
      value: valueOf(option),
    })),
    // Without commander's own command `help`: each command has --help.
    commands: command.commands.map((each) => describe(each, words)),
  }
}

function valueOf({ flags, argChoices, required, optional }: Option): DescribedOption['value'] {
  if (!required && !optional) return undefined
  const [, name = 'value'] = /[<[]([^>\].]+)/.exec(flags) ?? []
  return { name, choices: argChoices ?? [] }
}
