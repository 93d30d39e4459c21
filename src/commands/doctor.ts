import { Command } from '@commander-js/extra-typings'

import { exitStatus } from '../errors.ts'
import { jsonOption, stateOption } from './common-options.ts'
import { describeFindings } from './findings.ts'
import * as network from './network-flags.ts'
import { runCommand } from './run.ts'

export function doctorCommand() {
  return new Command('doctor')
    .description(
      'Say before the first boot why serve would not work in this network, and how to mend it',
    )
    .argument('[image...]', 'the images that you will serve')
    .addOption(network.dhcpOption)
    .addOption(network.listenOption)
    .addOption(network.interfaceOption)
    .addOption(stateOption)
    .addOption(network.tftpPortOption)
    .addOption(network.httpPortOption)
    .addOption(network.nfsPortOption)
    .addOption(network.noPortMapperOption)
    .option(...jsonOption)
    .action((images, flags) =>
      runCommand(flags, async ({ signal }) => {
        const { examine } = await import('../doctor/examine.ts')
        const { stateDirectory } = await import('../serve/state.ts')
        const findings = await examine({
          images,
          dhcp: flags.dhcp,
          interface: flags.interface,
          address: flags.listen,
          ports: network.portsOf(flags),
          state: stateDirectory(flags.state),
          signal,
        })
        const hasErrors = findings.some(({ level }) => level === 'error')
        return {
          json: { findings },
          text: describeFindings(
            findings.map(({ code, ...finding }) => ({ ...finding, id: code })),
            'nothing was found that keeps machines from booting',
          ),
          exitStatus: hasErrors ? exitStatus.failed : 0,
        }
      }),
    )
}
