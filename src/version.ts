/** The version of this netimage, as package.json has it. */
import { readFileSync } from 'node:fs'

export const { version }: { version: string } = JSON.parse(
  readFileSync(new URL('../package.json', import.meta.url), 'utf8'),
)
