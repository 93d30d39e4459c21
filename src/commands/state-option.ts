/** Where a server keeps what it knows of its machines, for all commands that look there. */
import { Option } from '@commander-js/extra-typings'

export const stateOption = new Option(
  '--state <dir>',
  'what is kept of the machines (default: /var/lib/netimage for root, else ~/.local/state/netimage)',
)
