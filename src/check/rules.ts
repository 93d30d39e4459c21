/** All rules, in the order of their findings. Each rule has a section in docs/checks.md. */
import type { Rule } from './rule.ts'
import {
  fileTooLarge,
  missingDeviceTree,
  missingFirmwareFile,
  missingKernelFile,
} from './rules/boot-tree.ts'
import { hypervisorLeftOut, initrdSecretsLeftOut } from './rules/boot-loader.ts'
import { brokenInitrd, unknownInitrdCompression } from './rules/initrd.ts'
import { kernelLineTooLong, nfsrootMisread } from './rules/kernel-line.ts'
import { networkTornDown } from './rules/network-torn-down.ts'
import { noNetworkDriver } from './rules/network-driver.ts'
import { noNetworkSetup } from './rules/network-setup.ts'
import { noNfsClient, noNfsHelper, noNfsProtocols } from './rules/nfs-client.ts'
import { nfs4ClientNames } from './rules/nfs4-client-names.ts'
import { overlayOnNfs } from './rules/overlay.ts'
import { noRegistration } from './rules/registration.ts'
import {
  nfsLock,
  nfsOptionsInDevice,
  nfsrootAndFstab,
  rootMismatch,
  rootNotNfs,
} from './rules/root.ts'
import { hostKeysBakedIn, machineIdBakedIn, secretsInStore } from './rules/secrets.ts'
import { ubootWithoutIpxe } from './rules/uboot.ts'

export const rules: readonly Rule[] = [
  rootNotNfs,
  rootMismatch,
  nfsOptionsInDevice,
  nfsrootAndFstab,
  nfsrootMisread,
  nfsLock,
  overlayOnNfs,
  kernelLineTooLong,
  brokenInitrd,
  unknownInitrdCompression,
  noNfsClient,
  noNfsHelper,
  noNfsProtocols,
  nfs4ClientNames,
  noNetworkDriver,
  noNetworkSetup,
  networkTornDown,
  initrdSecretsLeftOut,
  hypervisorLeftOut,
  missingKernelFile,
  missingDeviceTree,
  missingFirmwareFile,
  ubootWithoutIpxe,
  fileTooLarge,
  // Before the rules that read units, because this rule fetches all store paths at once.
  secretsInStore,
  hostKeysBakedIn,
  machineIdBakedIn,
  noRegistration,
]

export const ruleNames: readonly string[] = rules.map(({ name }) => name)

/** Whether a rule that is not silenced looks for secrets in the store. */
export function searchesStore(silenced: readonly string[] = []): boolean {
  return [secretsInStore, hostKeysBakedIn].some(({ name }) => !silenced.includes(name))
}
