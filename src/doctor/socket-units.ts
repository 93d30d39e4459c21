/** Which units of systemd hold a port for a service that does not run yet: `systemctl list-sockets`. */
import { ask } from './program.ts'
import type { WantedPort } from './port-owner.ts'

/** @returns the names of units, such as `tftp.socket`; none also if systemd does not run here */
export async function socketUnitsWith(wanted: WantedPort, signal: AbortSignal): Promise<string[]> {
  const args = ['list-sockets', '--show-types', '--full', '--no-legend', '--no-pager']
  const said = await ask('systemctl', args, signal)
  return said.kind === 'said' ? socketUnitsIn(said.text, wanted) : []
}

/** @param text lines such as `[::]:69 Datagram tftp.socket tftp.service` */
export function socketUnitsIn(text: string, { transport, port, address }: WantedPort): string[] {
  const places = new Set(['0.0.0.0', '[::]', '*', address].map((each) => `${each}:${port}`))
  const wanted = transport === 'tcp' ? 'Stream' : 'Datagram'
  const units = text.split('\n').flatMap((line) => {
    const [place = '', type, unit = ''] = line.trim().split(/\s+/)
    return places.has(place) && type === wanted && /^[\w@.:-]+\.socket$/.test(unit) ? [unit] : []
  })
  return [...new Set(units)]
}
