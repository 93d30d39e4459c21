// Configuration of servers as people write it by hand, for what netimage does not write itself.

import type { Network } from './network.ts'

/** dnsmasq as a DHCP server, and whatever else the lines say. */
export function dnsmasqConfiguration(
  { bridge }: Pick<Network, 'bridge'>,
  lines: readonly string[] = [],
): string {
  const text = [
    // No DNS.
    'port=0',
    `interface=${bridge}`,
    'bind-interfaces',
    'dhcp-authoritative',
    'no-ping',
    'log-dhcp',
    'dhcp-range=10.66.0.100,10.66.0.199,255.255.255.0,1h',
    ...lines,
  ]
  return text.join('\n') + '\n'
}

/** Lines for dnsmasq that keep iPXE from waiting for IPv6, which nobody here speaks. */
export const routerAdvertisements = ['enable-ra', 'dhcp-range=fd66::,ra-only,64']

/**
 * nfs-ganesha with root trees that are writable by root of every machine, over NFSv3 and NFSv4.
 *
 * @param exports where each tree lies, by the path that machines mount
 */
export function ganeshaConfiguration(exports: Record<string, string>): string {
  const blocks = Object.entries(exports).map(
    ([mounted, path], index) => `
EXPORT {
  Export_Id = ${index + 1};
  Path = ${path};
  Pseudo = ${mounted};
  FSAL { Name = VFS; }
}`,
  )
  return `
NFS_CORE_PARAM {
  NFS_Protocols = 3, 4;
  mount_path_pseudo = true;
  Enable_NLM = false;
  Enable_RQUOTA = false;
}
NFSv4 { Graceless = true; }
EXPORT_DEFAULTS {
  Access_Type = RW;
  Squash = no_root_squash;
  SecType = sys;
  Protocols = 3, 4;
  Transports = TCP, UDP;
}
${blocks.join('\n')}
`
}
