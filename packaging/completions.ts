/** The completions for shells, each a file of its own that starts no program while a person types. */
import type { DescribedCommand, DescribedOption } from './commands.ts'
import { allCommands } from './commands.ts'

const origin = 'Made from the commands of netimage: do not change it here.'

/** For bash 4.4 or later, without the functions of the package bash-completion. */
export function bashCompletion(program: DescribedCommand): string {
  const commands = allCommands(program)
  const names = commands.slice(1).map((command) => quoted(nameOf(command)))
  const values = commands.flatMap((command) =>
    command.options.flatMap((option) => {
      if (!option.value) return []
      const flags = flagsOf(option).map((flag) => quoted(`${nameOf(command)} ${flag}`))
      return [`    ${flags.join(' | ')}) words=${quoted(option.value.choices.join(' '))} ;;`]
    }),
  )
  const words = commands.map((command) => {
    const first = command.commands.map(({ words }) => words.at(-1) ?? '')
    const [choices = []] = command.arguments.map((argument) => argument.choices)
    return `    ${quoted(nameOf(command))}) flags=${quoted(command.options.flatMap(flagsOf).join(' '))} words=${quoted([...first, ...choices].join(' '))} ;;`
  })
  return `# bash completion for netimage. ${origin}
_netimage() {
  local current=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD - 1]}
  local command=netimage word words='' flags=''
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD - 1}"; do
    case "$command $word" in
    ${names.join(' | ')}) command+=" $word" ;;
    *) break ;;
    esac
  done
  # bash takes --flag=value for three words.
  if [[ $before = '=' && $COMP_CWORD -gt 2 ]]; then
    before=\${COMP_WORDS[COMP_CWORD - 2]}
  elif [[ $current = '=' ]]; then
    current=''
  fi
  COMPREPLY=()
  case "$command $before" in
${values.join('\n')}
  *)
    case "$command" in
${words.join('\n')}
    esac
    if [[ $current = -* ]]; then words=$flags; fi
    ;;
  esac
  # Without words, bash completes the names of files.
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -o default -F _netimage netimage
`
}

export function zshCompletion(program: DescribedCommand): string {
  return `#compdef netimage
# ${origin}

${allCommands(program).map(zshFunction).join('\n')}
_netimage "$@"
`
}

function zshFunction(command: DescribedCommand): string {
  const options = command.options.flatMap((option) =>
    flagsOf(option).map((flag) => {
      const { value } = option
      const text = `[${forZsh(option.description)}]`
      if (!value) return quoted(`${flag}${text}`)
      const how = value.choices.length > 0 ? `(${value.choices.join(' ')})` : '_files'
      // Some options may be given more than once.
      return quoted(
        `*${flag}${flag.startsWith('--') ? '=' : ''}${text}:${forZsh(value.name)}:${how}`,
      )
    }),
  )
  const name = `_${command.words.join('_')}`
  if (command.commands.length === 0) {
    const given = command.arguments.map(({ name, isVariadic, choices }, index) => {
      const how = choices.length > 0 ? `(${choices.join(' ')})` : '_files'
      return quoted(`${isVariadic ? '*' : index + 1}:${forZsh(name)}:${how}`)
    })
    return `${name}() {\n  _arguments ${[...options, ...given].join(' \\\n    ')}\n}\n`
  }
  const described = command.commands.map(({ words, summary }) =>
    quoted(`${words.at(-1)}:${summary.replaceAll(':', String.raw`\:`)}`),
  )
  const below = command.commands.map(({ words }) => `    ${words.at(-1)}) _${words.join('_')} ;;`)
  return `${name}() {
  local curcontext=$curcontext state line
  typeset -A opt_args
  _arguments -C ${options.join(' \\\n    ')} \\
    '1: :->command' '*:: :->rest'
  case $state in
  command)
    local -a commands=(
      ${described.join('\n      ')}
    )
    _describe command commands
    ;;
  rest)
    case $line[1] in
${below.join('\n')}
    esac
    ;;
  esac
}
`
}

export function fishCompletion(program: DescribedCommand): string {
  return `# fish completion for netimage. ${origin}

# Whether the words so far begin with these words.
function __netimage_after
    set -l words (commandline -opc)
    string match -q -- "$argv *" "$words "
end
# Whether the words so far are these words.
function __netimage_at
    set -l words (commandline -opc)
    test "$words" = "$argv"
end

${allCommands(program).flatMap(fishLines).join('\n')}
`
}

function fishLines(command: DescribedCommand): string[] {
  const at = (how: string) => `complete -c netimage -n ${fishQuoted(`${how} ${nameOf(command)}`)}`
  const where = command.commands.length > 0 ? '__netimage_at' : '__netimage_after'
  const options = command.options.map(({ short, long, description, value }) =>
    [
      at(where),
      short === '' ? '' : `-s ${short}`,
      `-l ${long}`,
      value && (value.choices.length > 0 ? `-x -a ${fishQuoted(value.choices.join(' '))}` : '-r'),
      `-d ${fishQuoted(description)}`,
    ]
      .filter(Boolean)
      .join(' '),
  )
  const below = command.commands.map(
    ({ words, summary }) =>
      `${at('__netimage_at')} -f -a ${words.at(-1)} -d ${fishQuoted(summary)}`,
  )
  const choices = command.arguments[0]?.choices ?? []
  const first =
    choices.length > 0 ? [`${at('__netimage_at')} -f -a ${fishQuoted(choices.join(' '))}`] : []
  return [...below, ...first, ...options]
}

function nameOf({ words }: DescribedCommand): string {
  return words.join(' ')
}

function flagsOf({ short, long }: DescribedOption): string[] {
  return [...(short === '' ? [] : [`-${short}`]), `--${long}`]
}

/** For bash and zsh. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`
}

function fishQuoted(text: string): string {
  return `'${text.replaceAll(/[\\']/g, String.raw`\$&`)}'`
}

/** In a description of `_arguments`. */
function forZsh(text: string): string {
  return text.replaceAll(/[\\[\]:]/g, String.raw`\$&`)
}
