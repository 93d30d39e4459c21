/** The steps of a boot, and the likely causes if a machine does not reach the next step. */

export const bootSteps = [
  'dhcp',
  'loader',
  'kernel',
  'initrd',
  'mount',
  'init',
  'registered',
] as const

export type BootStep = (typeof bootSteps)[number]

export function isAfter(step: BootStep, other: BootStep): boolean {
  return bootSteps.indexOf(step) > bootSteps.indexOf(other)
}

export interface Expectation {
  /** The next thing that should happen. */
  next: string
  /** If the machine gives no sign for this long, something is likely wrong. Seconds. */
  patience: number
  /** The most likely cause first. */
  causes: readonly string[]
}

/** By the step that a machine has reached; `docs/troubleshooting.md` has a section for each. */
export const expectations: Record<BootStep, Expectation> = {
  dhcp: {
    next: 'the machine asks for its boot file',
    patience: 20,
    causes: [
      'another DHCP server answers with a boot file or a server of its own',
      'the machine has no address yet: with proxyDHCP another server must give it one',
      'a firewall on this machine drops TFTP (UDP port 69) or HTTP',
      'U-Boot cannot use proxyDHCP: serve with --dhcp full',
    ],
  },
  loader: {
    next: 'the loader asks for the kernel',
    patience: 30,
    causes: [
      'the boot tree has no files for this loader: build the image with the --boot way for it',
      'the loader waits at a menu or a prompt',
      'the loader has no driver for this network card',
      'Secure Boot refuses a loader that is not signed',
    ],
  },
  kernel: {
    next: 'the loader asks for the initrd',
    patience: 60,
    causes: [
      'the transfer stopped: a bad cable, a full switch, or a firewall that drops large packets',
      'the file is larger than this loader can fetch',
      'the machine has too little memory for it',
    ],
  },
  initrd: {
    next: 'the initrd mounts the root over NFS',
    patience: 90,
    causes: [
      'the initrd has no driver for the network card: `netimage check` names the module',
      'the initrd has no NFS client, or the wrong version of one',
      'the kernel is for another board, or a device tree is missing',
      'the initrd asks for an address and no DHCP server gives one',
      'the fstab names another server for the root',
    ],
  },
  mount: {
    next: 'the machine reads its init',
    patience: 60,
    causes: [
      'the kernel line names the init of another system: the boot tree and the root are of different builds',
      'the network goes down between mounting and stage 2',
    ],
  },
  init: {
    next: 'the first boot registers the store',
    patience: 300,
    causes: [
      'no unit of the system registers the store: `netimage check` tells so',
      'stage 2 takes the network down under its own root',
      'a service waits for a device or a server that does not exist',
    ],
  },
  registered: { next: 'nothing: the machine is up', patience: Infinity, causes: [] },
}
