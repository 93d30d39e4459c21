import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { parseBootspec } from '../../src/nixos/bootspec.ts'
import { assertError, netimageError, type Expected } from '../support/errors.ts'

const toplevel = `/nix/store/${'1'.repeat(32)}-nixos-system-host-25.11`
const kernel = `/nix/store/${'2'.repeat(32)}-linux-6.12.9`

/** A specification like NixOS's. */
const specification = {
  init: `${toplevel}/init`,
  initrd: `/nix/store/${'3'.repeat(32)}-initrd-linux-6.12.9/initrd`,
  kernel: `${kernel}/bzImage`,
  kernelParams: ['loglevel=4', 'init=x', ''],
  label: 'NixOS Xantusia 25.11 (Linux 6.12.9)',
  system: 'x86_64-linux',
  toplevel,
}

type Changes = Record<string, unknown>

function document(changes: Changes = {}, specialisations: Changes = {}): Changes {
  return {
    'org.nixos.bootspec.v1': { ...specification, ...changes },
    'org.nixos.specialisation.v1': specialisations,
  }
}

const parse = (value: unknown) => parseBootspec(JSON.stringify(value), 'the-bootspec')

test('all fields of a bootspec are read', () => {
  assert.deepEqual(parse(document()), { ...specification, specialisations: new Map() })
})

test('the initrd and the specialisations may be missing', () => {
  const { initrd, ...rest } = specification
  assert.ok(initrd)
  const parsed = parse({ 'org.nixos.bootspec.v1': rest })
  assert.deepEqual(parsed, { ...rest, specialisations: new Map() })
  const none = parse({ 'org.nixos.bootspec.v1': { ...rest, initrd: null } })
  assert.equal(none?.initrd, undefined)
})

test('extensions are ignored', () => {
  const extended = {
    ...document({ unknown: 1 }),
    'org.nixos.systemd-boot': { sortKey: 'nixos', devicetree: null },
    'org.example.v1': ['anything'],
  }
  assert.deepEqual(parse(extended), parse(document()))
})

test('specialisations are bootspecs, sorted by name', () => {
  const specialisations = {
    serial: document({ label: 'serial' }),
    'a name with blanks': document({ label: 'blanks' }),
    10: document({ label: 'ten' }),
    9: document({ label: 'nine' }),
    gnome: document({ label: 'gnome' }, { nested: document({ label: 'nested' }) }),
  }
  const parsed = parse(document({}, specialisations))
  const names = [...(parsed?.specialisations.keys() ?? [])]
  assert.deepEqual(names, ['10', '9', 'a name with blanks', 'gnome', 'serial'])
  const gnome = parsed?.specialisations.get('gnome')
  assert.equal(gnome?.label, 'gnome')
  assert.equal(gnome.specialisations.get('nested')?.label, 'nested')
})

test('the depth of nested specialisations is limited', () => {
  let deep = document()
  for (let level = 0; level < 500; level++) deep = document({}, { again: deep })
  let depth = 0
  for (
    let bootspec = parse(deep)?.specialisations.get('again');
    bootspec;
    bootspec = bootspec.specialisations.get('again')
  ) {
    depth++
  }
  assert.ok(depth > 0 && depth < 10)
})

test('a document of an unknown version gives undefined', () => {
  assert.equal(parse({}), undefined)
  assert.equal(parse({ 'org.nixos.bootspec.v2': specification }), undefined)
})

suite('a bootspec is refused if', () => {
  function assertRefused(text: string, ...expected: Expected[]): void {
    assert.throws(
      () => parseBootspec(text, 'the-bootspec'),
      netimageError('bad-system', /the-bootspec/, ...expected),
    )
  }

  test('it is no JSON', () => {
    for (const text of ['', '{', 'null x', '<html>', '\u{feff}{}']) assertRefused(text)
  })

  test('it is no JSON object', () => {
    for (const text of ['null', '1', '"x"', 'true']) assertRefused(text)
  })

  test('its version 1 is no specification', () => {
    for (const value of [null, 1, 'x', []]) {
      assertRefused(JSON.stringify({ 'org.nixos.bootspec.v1': value }))
    }
  })

  for (const key of ['init', 'kernel', 'kernelParams', 'label', 'system', 'toplevel']) {
    test(`${key} is missing`, () => {
      assertRefused(JSON.stringify(document({ [key]: undefined })), { field: key })
    })
  }

  test('a value has a wrong type', () => {
    for (const key of Object.keys(specification)) {
      for (const value of [...(key === 'initrd' ? [] : [null]), 1, {}, [1], false]) {
        const field = key === 'kernelParams' && Array.isArray(value) ? `${key}.0` : key
        assertRefused(JSON.stringify(document({ [key]: value })), { field })
      }
    }
  })

  test('a path is not absolute or could lead out of the store', () => {
    const paths = [
      ['', 'relative', './x', `${kernel}/../../../../etc/passwd`, `${kernel}/..`, '/..', '/../etc'],
      [`/\n/../etc`, `${kernel}\n/../..`, `/x\u2028/../y`],
    ].flat()
    for (const key of ['init', 'initrd', 'kernel', 'toplevel']) {
      for (const path of paths) {
        assertRefused(JSON.stringify(document({ [key]: path })), { field: key })
      }
    }
    // Names may begin or end with dots.
    assert.equal(parse(document({ kernel: `${kernel}/..x/x..` }))?.kernel, `${kernel}/..x/x..`)
  })

  test('a specialisation is broken, which the error names', () => {
    const text = JSON.stringify(document({}, { serial: document({ kernel: 'x' }) }))
    assertRefused(text, /serial/, { field: 'kernel' })
  })

  test('any JSON is not a valid bootspec', () => {
    const value = fc.jsonValue({ maxDepth: 3 })
    const key = fc.oneof(
      fc.constantFrom(...Object.keys(specification), '__proto__', 'constructor'),
      fc.string(),
    )
    const anything = fc.oneof(
      fc.json(),
      fc.string(),
      fc.dictionary(key, value).map((changes) => JSON.stringify(document(changes, changes))),
      fc.array(value).map((specialisations) => {
        return JSON.stringify({ ...document(), 'org.nixos.specialisation.v1': specialisations })
      }),
    )
    fc.assert(
      fc.property(anything, (text) => {
        try {
          const bootspec = parseBootspec(text, 'the-bootspec')
          if (bootspec) assert.match(bootspec.kernel, /^\//)
        } catch (error) {
          assertError(error, 'bad-system')
        }
      }),
      { numRuns: 500 },
    )
  })
})
