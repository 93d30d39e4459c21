// Handwritten configuration of servers, for parts that netimage does not write.

import type { Network } from './network.ts'

/** Configures dnsmasq as a DHCP server, with additional lines. */
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

/** Lines for dnsmasq, so that iPXE does not wait for IPv6, which is not used here. */
export const routerAdvertisements = ['enable-ra', 'dhcp-range=fd66::,ra-only,64']

/**
 * Configures nfs-ganesha over NFSv3 and NFSv4. Root of every machine may write to the root trees.
 *
 * @param exports the directory of each tree, by the path that machines mount
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
