/** The flag that names the state directory of `serve`, for all commands that read it. */
import { Option } from '@commander-js/extra-typings'

export const stateOption = new Option(
  '--state <dir>',
  'the directory with boots, leases, layers and images (default: /var/lib/netimage for root, else ~/.local/state/netimage)',
)
