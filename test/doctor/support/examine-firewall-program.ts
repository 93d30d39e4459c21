// Prints what the doctor finds about the firewall: INTERFACE ADDRESS PREFIX.

import { examineFirewall } from '../../../src/doctor/firewall/examine.ts'
import { servicesOf } from '../../../src/doctor/services.ts'
import { parseNetwork } from '../../../src/ipv4.ts'

const [, , name = '', address = '', prefix = ''] = process.argv
const ports = { tftp: 69, http: 80, nfs: 2049, portMapper: 111 }
const found = await examineFirewall(
  servicesOf({ dhcp: 'proxy', ports }),
  { name, address, network: parseNetwork(`${address}/${prefix}`) },
  new AbortController().signal,
)
process.stdout.write(JSON.stringify(found))
