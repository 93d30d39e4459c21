// What is in a package that was unpacked.

import { lstatSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** By e_machine: elf(5). */
const machines: Readonly<Record<number, string>> = { 62: 'x86-64', 183: 'AArch64' }
const [magic, machineAt] = ['\x7fELF', 18]

/** The processor of each ELF file, by its name in the tree. */
export function elfMachines(tree: string): Map<string, string> {
  const found = new Map<string, string>()
  for (const name of namesIn(tree)) {
    if (!lstatSync(join(tree, name)).isFile()) continue
    const bytes = readFileSync(join(tree, name))
    if (bytes.toString('latin1', 0, 4) !== magic) continue
    const machine = bytes.readUInt16LE(machineAt)
    found.set(name, machines[machine] ?? `machine ${machine}`)
  }
  return found
}

/** The names of all files, with `ARCH` in place of an architecture. */
export function plainNames(tree: string): string[] {
  const names = namesIn(tree).map((name) => name.replaceAll(/arm64|x64/g, 'ARCH'))
  return names.toSorted()
}

function namesIn(tree: string): string[] {
  return readdirSync(tree, { recursive: true, encoding: 'utf8' })
}
