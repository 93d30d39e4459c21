/**
 * The machines as targets for Prometheus, which asks for them itself.
 * https://prometheus.io/docs/prometheus/latest/http_sd/
 */
import { isIPv4 } from 'node:net'

import type { ShownMachine } from './shown.ts'

export interface Target {
  targets: readonly [string]
  labels: Readonly<Record<string, string>>
}

/** The port of Prometheus's node exporter. */
export const exporterPort = 9100

/** A machine whose IP address is not known yet is left out. */
export function targetsOf(machines: Iterable<ShownMachine>, port: number): Target[] {
  return [...machines].flatMap(({ machine, name = '', group = '', boot, last }) => {
    const address = isIPv4(machine) ? machine : boot?.address
    if (address === undefined) return []
    const labels = {
      ...{ __meta_netimage_machine: machine, __meta_netimage_name: name },
      ...{ __meta_netimage_group: group, __meta_netimage_state: last?.state ?? 'new' },
    }
    return [{ targets: [`${address}:${port}`], labels }]
  })
}
