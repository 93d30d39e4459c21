/** The images that machines boot if nobody chose anything for them: one for each kind of processor. */
import { NetimageError } from '../errors.ts'
import type { ServeEvent } from '../protocols/event.ts'
import { remember } from '../remember.ts'
import type { Candidate } from '../site/life/life.ts'
import type { OpenSystem } from './open-systems.ts'

/** IANA's processor architecture type, or a Raspberry Pi, which sends the type of a BIOS. */
export type Processor = number | 'raspberry-pi'

/** @returns undefined if the text names no processor */
export function parseProcessor(text: string): Processor | undefined {
  if (text === 'raspberry-pi') return text
  return /^\d{1,5}$/.test(text) ? Number(text) : undefined
}

export interface DefaultImage {
  candidate: Candidate
  open: DescribedImage
}

type DescribedImage = Pick<OpenSystem, 'image' | 'platform' | 'rootPath' | 'loaders'>

export interface DefaultsSettings {
  images: readonly DefaultImage[]
  /** Processors by hardware address, as an earlier run of the server knew them. */
  learntProcessors?: ReadonlyMap<string, Processor>
  /** Whether the server has learnt of the machine only by packets whose sender may be forged. */
  mayForget?: (mac: string) => boolean
  /** Called if a machine has another processor than before. */
  onProcessor?: (mac: string, processor: Processor) => void
}

export interface Defaults {
  /** To be called when DHCP has told the processor of a machine. */
  learnProcessor(mac: string, processor: Processor): void
  /** @returns undefined if the server has no image by default */
  of(machine: string, event: ServeEvent): DefaultImage | undefined
}

const [arm64, arm32] = [11, 10]

/** Nix's platforms by the architectures that firmware names. */
const platforms: Record<string, readonly number[]> = {
  'i686-': [0],
  'x86_64-': [0, 6, 7, 9, 15, 16],
  'aarch64-': [11, 19, 22],
  'armv7l-': [10, 18, 21],
  'riscv64-': [27, 28],
}

/** @throws `NetimageError` `bad-option` if two images are for one platform */
export function createDefaults(settings: DefaultsSettings): Defaults {
  const { images, learntProcessors, mayForget, onProcessor } = settings
  refuseSamePlatforms(images.map(({ open }) => open))
  const processors = new Map<string, Processor>(learntProcessors)
  const [first] = images

  function imageFor(architecture: number): DefaultImage | undefined {
    return images.find(({ open }) => fits(open.platform, architecture))
  }

  function byProcessor(processor: Processor | undefined): DefaultImage | undefined {
    if (processor === undefined) return undefined
    if (processor !== 'raspberry-pi') return imageFor(processor)
    const ofPi = images.find(({ open }) => open.loaders.raspberryPi)
    return ofPi ?? imageFor(arm64) ?? imageFor(arm32)
  }

  return {
    learnProcessor(mac, processor) {
      if (processors.get(mac) !== processor) onProcessor?.(mac, processor)
      remember(processors, mac, processor, undefined, mayForget)
    },
    of(machine, event) {
      const found = byProcessor(processors.get(machine))
      if (found || event.kind !== 'nfs') return found ?? first
      // A machine that gets its boot files elsewhere tells its image by the path of its root.
      return images.find(({ open }) => isWithin(event.path, open.rootPath)) ?? first
    },
  }
}

/** A machine without a generation of its own gets one by its processor, so there must be only one. */
function refuseSamePlatforms(images: readonly DescribedImage[]): void {
  for (const [index, { platform, image }] of images.entries()) {
    const other = images.slice(0, index).find((each) => each.platform === platform)
    if (!other || other.image.id === image.id) continue
    throw new NetimageError(
      'bad-option',
      `${other.image.name} and ${image.name} are both for ${platform}`,
      {
        hint: 'Serve one image for each kind of processor. Add further images to the site with netimage site add, and give them to machines with netimage site assign.',
      },
    )
  }
}

export function isWithin(path: string, root: string): boolean {
  return path === root || path.startsWith(root === '/' ? root : `${root}/`)
}

function fits(platform: string, architecture: number): boolean {
  return Object.entries(platforms).some(
    ([prefix, codes]) => platform.startsWith(prefix) && codes.includes(architecture),
  )
}
