/** Examines this computer and its network: why would `netimage serve` not work here? */
import { statSync } from 'node:fs'
import { resolve } from 'node:path'

import { imageLayout } from '../image/layout.ts'
import { readImage } from '../image/manifest.ts'
import type { SettledOptions } from '../image/options.ts'
import type { ServedInterface, WantedInterface } from '../protocols/interfaces.ts'
import { isServed } from '../serve/state.ts'
import { examineClock } from './clock.ts'
import { examineDhcpServers } from './dhcp-servers.ts'
import { errorsFirst, runAsRoot, type DoctorFinding } from './finding.ts'
import { examineFirewall } from './firewall/examine.ts'
import { examineMtu } from './mtu.ts'
import { examineRoot } from './nfs-root.ts'
import { examinePlace } from './place.ts'
import { examinePorts } from './ports.ts'
import { servicesOf, type ServiceSettings } from './services.ts'
import { examineStateDisk } from './state-disk.ts'

export interface DoctorRequest extends ServiceSettings, WantedInterface {
  /** Directories that `build` made. */
  images: readonly string[]
  /** The state directory; it may not exist yet. */
  state: string
  signal: AbortSignal
}

/**
 * Examines everything. Nothing is changed: each port is only opened and closed.
 *
 * @returns the errors first
 * @throws `NetimageError` if an image cannot be read
 */
export async function examine(request: DoctorRequest): Promise<DoctorFinding[]> {
  const { place, findings } = examinePlace(request)
  const here = place ? await examineAlone(request, place) : []
  return errorsFirst([...findings, ...here, ...(await examineRest(request, place, true))])
}

/**
 * What a server that has started does not notice by itself. No name servers are asked, because the server
 * could not end before they have answered.
 *
 * @returns errors and warnings, the errors first, and a note if the firewall could not be examined
 * @throws `NetimageError` if an image cannot be read
 */
export async function examineServing(
  request: DoctorRequest,
  place: ServedInterface,
): Promise<DoctorFinding[]> {
  const findings = await examineRest(request, place, false)
  const told = findings.filter(({ level }) => level !== 'note')
  // A service has no right to read the rules. It must not look as if nothing dropped packets.
  const isUnknown = findings.some(({ code }) => code === 'firewall-unknown')
  return errorsFirst([...told, ...(isUnknown ? [firewallUnknown(place)] : [])])
}

function firewallUnknown({ name }: ServedInterface): DoctorFinding {
  return {
    code: 'firewall-unknown',
    level: 'note',
    message: `cannot tell here whether a firewall drops what machines on ${name} send`,
    hint: runAsRoot,
  }
}

/** What our own server would disturb if it ran: it has the ports, and it answers to DHCP. */
async function examineAlone(
  request: DoctorRequest,
  place: ServedInterface,
): Promise<DoctorFinding[]> {
  const { state, dhcp, signal } = request
  if (!isServed(state)) {
    return [
      ...(await examinePorts(servicesOf(request), place, signal)),
      ...(await examineDhcpServers(dhcp, place, signal)),
    ]
  }
  return [
    {
      code: 'already-served',
      level: 'note',
      message: `a server runs with the state in ${state} already, so its ports and other DHCP servers were not examined`,
      hint: 'To examine them, stop this server, and run netimage doctor again.',
    },
  ]
}

async function examineRest(
  request: DoctorRequest,
  place: ServedInterface | undefined,
  asksNames: boolean,
): Promise<DoctorFinding[]> {
  const { dhcp, ports, state, signal } = request
  const images = await Promise.all(request.images.map(openImage))
  const roots = place
    ? images.map(async (image) => await examineRoot({ ...image, dhcp, ports, asksNames }, place))
    : []
  return [
    ...(await Promise.all(roots)).flat(),
    ...(place ? await examineFirewall(servicesOf(request), place, signal) : []),
    ...(place ? await examineMtu(place, signal) : []),
    ...examineStateDisk(state),
    ...examineClock(images),
  ]
}

interface ExaminedImage {
  image: string
  options: SettledOptions
  changedMs: number
}

async function openImage(image: string): Promise<ExaminedImage> {
  const directory = resolve(image)
  const { options } = await readImage(directory, image)
  const { manifest } = imageLayout(directory, options.rootDirectoryName)
  // The image has no time of its own. No program can set this time, so the clock of this computer did.
  return { image, options, changedMs: statSync(manifest).ctimeMs }
}
