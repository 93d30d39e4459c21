// The programs of this computer, with their Debian packages: test/e2e/debian-packages.

import { accessSync, constants, readFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'

const packagesFile = join(import.meta.dirname, '../e2e/debian-packages')

/** The path of a program. Daemons may not be on the PATH. */
export function findProgram(name: string): string {
  const directories = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin']
  const found = directories.map((directory) => join(directory, name)).find(isProgram)
  if (found !== undefined) return found
  throw missingProgram(name)
}

/** The error for a program that is not there. @throws if no package is known for the program */
export function missingProgram(name: string): Error {
  const advice = `install the Debian package ${packageOf(name)}`
  return new Error(`The program "${name}" is missing: ${advice}.`)
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

function packageOf(program: string): string {
  for (const line of readFileSync(packagesFile, 'utf8').split('\n')) {
    const [debianPackage, ...programs] = line.split(' ')
    if (debianPackage !== undefined && programs.includes(program)) return debianPackage
  }
  throw new Error(`${packagesFile} names no package for "${program}".`)
}
