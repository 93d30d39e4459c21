// The addon, built from its source.

import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { findProgram } from '../../support/packages.ts'
import { temporaryDirectory } from '../../support/temporary.ts'

const script = join(import.meta.dirname, '..', '..', '..', 'scripts', 'build-native.sh')

/** @returns the file of the addon */
export function buildAddon(): string {
  const file = join(temporaryDirectory(), 'ports.node')
  execFileSync('sh', [script, file, findProgram('gcc')])
  return file
}
