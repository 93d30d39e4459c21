/** The servers that netimage writes configurations for, by name. */
import { dnsmasqConfiguration } from './dnsmasq.ts'
import { ganeshaConfiguration } from './ganesha.ts'
import { keaConfiguration } from './isc-kea.ts'
import { nfsExports } from './nfs-exports.ts'
import type { ServerPlan } from './plan.ts'
import { tftpdHpaConfiguration } from './tftpd-hpa.ts'

export interface ServerKind {
  /** The name of the file that the server reads. */
  fileName: string
  configure: (plan: ServerPlan) => string
}

export const serverKinds = {
  dnsmasq: { fileName: 'dnsmasq.conf', configure: dnsmasqConfiguration },
  'tftpd-hpa': { fileName: 'tftpd-hpa', configure: tftpdHpaConfiguration },
  'nfs-exports': { fileName: 'netimage.exports', configure: nfsExports },
  ganesha: { fileName: 'ganesha.conf', configure: ganeshaConfiguration },
  'isc-kea': { fileName: 'kea-dhcp4.conf', configure: keaConfiguration },
} as const satisfies Record<string, ServerKind>

export type ServerName = keyof typeof serverKinds

export const serverNames = [
  'dnsmasq',
  'tftpd-hpa',
  'nfs-exports',
  'ganesha',
  'isc-kea',
] as const satisfies ServerName[]
