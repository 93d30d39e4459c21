/** Which interface and address `serve` would use. */
import { NetimageError } from '../errors.ts'
import { checkInterface } from '../protocols/dhcp/interface.ts'
import {
  findInterface,
  type ServedInterface,
  type WantedInterface,
} from '../protocols/interfaces.ts'
import { findingOf, type DoctorFinding } from './finding.ts'

export interface FoundPlace {
  /** Undefined: the server would not start. */
  place: ServedInterface | undefined
  findings: DoctorFinding[]
}

export function examinePlace(wanted: WantedInterface): FoundPlace {
  let place: ServedInterface
  try {
    place = findInterface(wanted)
    checkInterface(place.name, place.address)
  } catch (error) {
    if (!(error instanceof NetimageError)) throw error
    return { place: undefined, findings: [findingOf('interface', error)] }
  }
  const { name, address, network } = place
  if (!network && wanted.interface !== undefined && wanted.address !== undefined) {
    return {
      place,
      findings: [
        {
          code: 'interface',
          level: 'warning',
          message: `the interface ${name} does not show the address ${address} with a network: its cable is not connected, or it does not have the address`,
          hint: 'Connect the cable, or give the interface this address.',
        },
      ],
    }
  }
  return {
    place,
    findings: [
      {
        code: 'interface',
        level: 'note',
        message: `the server would use the address ${address} of the interface ${name}`,
      },
    ],
  }
}
