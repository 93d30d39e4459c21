/** Whether this machine still has the address that it serves on. */
import { NetimageError } from '../errors.ts'
import { ownAddresses, type OwnAddress, type ServedInterface } from '../protocols/interfaces.ts'

const lookEveryMs = 1000
/** Whoever manages the network may take an address away before the same one is there again. */
const looksUntilSure = 3

export interface AddressWatch {
  [Symbol.dispose]: () => void
}

/**
 * Looks once a second. An interface that shows no address at all may only have lost its cable, which
 * Node cannot tell apart, so nothing is said of that.
 *
 * @param onChange told once whenever the interface has come to have other addresses instead
 */
export function watchAddress(
  { name, address }: ServedInterface,
  onChange: (addresses: readonly string[]) => void,
  addresses: () => readonly OwnAddress[] = ownAddresses,
): AddressWatch {
  let looks = 0
  const timer = setInterval(() => {
    const found = addresses().filter((own) => own.name === name)
    const isOther = found.length > 0 && !found.some((own) => own.address === address)
    looks = isOther ? looks + 1 : 0
    if (looks === looksUntilSure) onChange(found.map((own) => own.address))
  }, lookEveryMs)
  return { [Symbol.dispose]: () => clearInterval(timer) }
}

/** @param isChosen whether the person named the address, so that no other will do */
export function addressChanged(
  { name, address }: ServedInterface,
  addresses: readonly string[],
  isChosen: boolean,
): NetimageError {
  const now = addresses.join(' and ')
  return new NetimageError(
    'cannot-listen',
    `the interface ${name} has the address ${now} now, and all is served on ${address}: no machine can reach that`,
    {
      hint: isChosen
        ? `Give ${name} its address again, or serve with --listen ${addresses[0]}.`
        : `Serve again, which takes the new address; systemd does so with Restart=on-failure. Images whose nfsRoot names ${address} must be built anew.`,
    },
  )
}
