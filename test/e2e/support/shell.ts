// Commands in a machine whose console is a shell.

import type { PoweredMachine } from './machines.ts'

export type Shell = {
  /** Runs a command to its end. @returns its output, line by line. @throws if it fails */
  run: (command: string) => Promise<string[]>
  /** Starts a command that ends the shell, as a restart of the machine does. */
  start: (command: string) => void
}

/**
 * Reads commands without the echo and the line editing of the shell at the console, which would break
 * long lines.
 */
const reader = `stty -echo; echo ready for commands; n=0; while read -r c; do n=$((n+1)); (eval "$c") 2>&1; echo "end $n: $?"; done`

/** @param after the number of lines that the machine had printed before its last start */
export async function openShell(machine: PoweredMachine, after = 0): Promise<Shell> {
  await machine.waitFor(/netimage-demo: (blessed|not good)/, after)
  // The shell starts after this.
  await machine.waitFor(/# ?$/, after)
  machine.type(`exec sh -c '${reader.replaceAll("'", `'\\''`)}'\r`)
  await machine.waitFor(/^ready for commands$/, after)
  let count = 0
  return {
    async run(command) {
      const from = machine.lines().length
      machine.type(`${command}\r`)
      count += 1
      const { text } = await machine.waitFor(new RegExp(`^end ${count}: \\d+$`), from)
      const said = machine
        .lines()
        .slice(from)
        .map((line) => line.text)
      const output = said.slice(0, said.indexOf(text))
      if (!text.endsWith(': 0')) {
        throw new Error(`"${command}" failed in the machine:\n${output.join('\n')}`)
      }
      return output
    },
    start: (command) => machine.type(`${command}\r`),
  }
}
