/** Arguments and flags that several commands have. */
import { InvalidArgumentError, Option } from '@commander-js/extra-typings'

/** The state directory of `serve`. */
export const stateOption = new Option(
  '--state <dir>',
  'the directory with boots, leases, layers and images (default: /var/lib/netimage for root, else ~/.local/state/netimage)',
)

/** The file of a site. */
export const fileOption = new Option(
  '--file <file>',
  'the file of the site: .toml, .json, .ts or .js (default: ./site.toml)',
)

/** To be spread into `argument`. */
export const machineArgument = [
  '<machine>',
  'a hardware address, an IP address, or a name',
] as const

/** To be spread into `option`. */
export const jsonOption = ['--json', 'print the result as JSON'] as const

export function parseCount(text: string): number {
  const count = Number(text)
  if (Number.isSafeInteger(count) && count > 0) return count
  throw new InvalidArgumentError('Give a whole number, 1 or more.')
}
