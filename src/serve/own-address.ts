/** Watches whether this machine still has the address that it serves on. */
import { NetimageError } from '../errors.ts'
import { ownAddresses, type OwnAddress, type ServedInterface } from '../protocols/interfaces.ts'

const lookEveryMs = 1000
/** A network manager may remove an address and set the same one again right after. */
const looksUntilSure = 3

export interface AddressWatch {
  [Symbol.dispose]: () => void
}

/**
 * Looks once a second. If the interface has no address at all, its cable may only be unplugged.
 * Node does not show the difference, so this is not reported.
 *
 * @param onChange called once each time that other addresses have replaced the address
 */
export function watchAddress(
  { name, address }: ServedInterface,
  onChange: (addresses: readonly string[]) => void,
  addresses: () => readonly OwnAddress[] = ownAddresses,
): AddressWatch {
  let looks = 0
  const timer = setInterval(() => {
    const found = ownNow()?.filter((own) => own.name === name)
    if (!found) return
    const isOther = found.length > 0 && !found.some((own) => own.address === address)
    looks = isOther ? looks + 1 : 0
    if (looks === looksUntilSure) onChange(found.map((own) => own.address))
  }, lookEveryMs)
  return { [Symbol.dispose]: () => clearInterval(timer) }

  /** @returns undefined if the system cannot tell now: no descriptor is left, for example */
  function ownNow(): readonly OwnAddress[] | undefined {
    try {
      return addresses()
    } catch {
      return undefined
    }
  }
}

/** @param isChosen whether the user named the address, so that no other may be used */
export function addressChanged(
  { name, address }: ServedInterface,
  addresses: readonly string[],
  isChosen: boolean,
): NetimageError {
  const now = addresses.join(' and ')
  return new NetimageError(
    'cannot-listen',
    `the interface ${name} now has the address ${now}, but the server listens on ${address}: no machine can reach it`,
    {
      details: { field: name, expected: address, actual: now },
      hint: isChosen
        ? `Give ${name} its address again, or serve with --listen ${addresses[0]}.`
        : `Start the server again: it then uses the new address (systemd does this with Restart=on-failure). Build images again whose nfsRoot names ${address}.`,
    },
  )
}
