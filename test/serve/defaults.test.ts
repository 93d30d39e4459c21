import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { findLoaders } from '../../src/boot/loaders.ts'
import { createDefaults } from '../../src/serve/defaults.ts'
import { netimageError } from '../support/errors.ts'

const [piMac, pcMac, armMac] = ['dc:a6:32:00:00:01', '52:54:00:00:00:01', '52:54:00:00:00:02']

function image(name: string, platform: string, raspberryPi = false, rootPath = `/srv/${name}`) {
  const candidate = { image: name, toplevel: name, blesses: false } as const
  const files = new Set(raspberryPi ? ['config.txt'] : [])
  const loaders = findLoaders(files, () => undefined, undefined)
  const described = { id: name, directory: `/${name}`, name, toplevel: name }
  return { candidate, open: { image: described, platform, rootPath, loaders } }
}

const pc = image('pc', 'x86_64-linux')
const pi = image('pi', 'aarch64-linux', true)
const arm = image('arm', 'aarch64-linux')
const discover = { kind: 'dhcp', step: 'discover', proxy: false } as const
const mount = (path: string) => ({ kind: 'nfs', step: 'mount', path }) as const

suite('the image for a machine for which nobody chose one', () => {
  test('is for its processor; a Raspberry Pi calls itself a BIOS', () => {
    for (const images of [
      [pc, pi],
      [pi, pc],
      [pc, arm],
    ]) {
      const defaults = createDefaults({ images })
      defaults.learnProcessor(piMac, 'raspberry-pi')
      defaults.learnProcessor(pcMac, 0)
      defaults.learnProcessor(armMac, 11)
      const platforms = [piMac, pcMac, armMac].map(
        (mac) => defaults.of(mac, discover)?.open.platform,
      )
      assert.deepEqual(platforms, ['aarch64-linux', 'x86_64-linux', 'aarch64-linux'])
    }
  })

  test('has the root that the machine mounts, if the processor is not known', () => {
    const defaults = createDefaults({ images: [pc, pi] })
    assert.equal(defaults.of('10.0.0.7', mount('/srv/pi/')), pi)
    assert.equal(defaults.of('10.0.0.7', mount('/srv/other')), pc)
    assert.equal(createDefaults({ images: [] }).of('10.0.0.7', mount('/srv/pi')), undefined)
  })

  test('cannot be one of two for the same platform', () => {
    assert.throws(() => createDefaults({ images: [arm, pi] }), netimageError('bad-option', {}))
  })
})
