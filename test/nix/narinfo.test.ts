import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { formatHash } from '../../src/nix/hash.ts'
import { parseNarInfo } from '../../src/nix/narinfo.ts'
import type { NarInfo } from '../../src/nix/narinfo.ts'
import { fingerprint } from '../../src/nix/path-info.ts'
import { hashPartOf } from '../../src/nix/store-path.ts'
import { assertError, type Expected } from '../support/errors.ts'
import { hash, storePath, toPathInfo } from '../support/path-infos.ts'
import { addBuilderShell, createNixWorld, findStaticBusybox } from '../support/real-nix.ts'
import { temporaryDirectory } from '../support/temporary.ts'

const path = storePath('/nix/store/syd87l2rxw8cbsxmxl853h0r6pdwhwjr-curl-7.82.0-bin')
const references = [
  '0jqd0rlxzra1rs38rdxl43yh6rxchgc6-curl-7.82.0',
  '6w8g7njm4mck5dmjxws0z1xnrxvl81xa-glibc-2.34-115',
  'j5jxw3iy7bbz4a57fh9g2xm2gxmyal8h-zlib-1.2.12',
  'yxvjs9drzsphm9pcf42a4byzj1kb9m7k-openssl-1.1.1n',
]

/** A narinfo of the public NixOS cache. */
const fields: Record<string, string> = {
  StorePath: path,
  URL: 'nar/05ra3y72i3qjri7xskf9qj8kb29r6naqy1sqpbs3azi3xcigmj56.nar.xz',
  Compression: 'xz',
  FileHash: 'sha256:05ra3y72i3qjri7xskf9qj8kb29r6naqy1sqpbs3azi3xcigmj56',
  FileSize: '68852',
  NarHash: 'sha256:1b4sb93wp679q4zx9k1ignby1yna3z7c4c2ri3wphylbc2dwsys0',
  NarSize: '196040',
  References: references.join(' '),
  Deriver: '5rwxzi7pal3qhpsyfc16gzkh939q1np6-curl-7.82.0.drv',
  Sig: 'cache.nixos.org-1:TsTTb3WGTZKphvYdBHXwo6weVILmTytUjLB+vcX89fOjjRicCHmKA4RCPMVLkj6TMJ4GMX3HPVWRdD1hkeKZBQ==',
}

/** The narinfo with some fields changed. Undefined fields are left out. */
function narInfo(changes: Record<string, string | undefined> = {}): string {
  const lines = Object.entries({ ...fields, ...changes })
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${key}: ${value}\n`)
  return lines.join('')
}

const parse = (text: string): NarInfo => parseNarInfo(text, path, 'the-narinfo')

test('all fields of a narinfo of the public cache are read', () => {
  const info = parse(narInfo())
  assert.deepEqual(info, {
    path,
    url: fields['URL'],
    compression: 'xz',
    narHash: hash('sha256:1b4sb93wp679q4zx9k1ignby1yna3z7c4c2ri3wphylbc2dwsys0'),
    narSize: 196040,
    references: references.map((name) => storePath(`/nix/store/${name}`)),
    signatures: [fields['Sig']],
    deriver: storePath('/nix/store/5rwxzi7pal3qhpsyfc16gzkh939q1np6-curl-7.82.0.drv'),
    fileHash: hash('sha256:05ra3y72i3qjri7xskf9qj8kb29r6naqy1sqpbs3azi3xcigmj56'),
    fileSize: 68852,
  })
  const full = references.map((name) => `/nix/store/${name}`).join(',')
  assert.equal(fingerprint(info), `1;${path};${fields['NarHash']};196040;${full}`)
})

suite('fields that may be missing', () => {
  test('all of them', () => {
    const left = { FileHash: undefined, FileSize: undefined, Deriver: undefined, Sig: undefined }
    const info = parse(narInfo({ ...left, References: undefined, Compression: undefined }))
    assert.equal(
      Object.keys(info).toSorted().join(' '),
      'compression narHash narSize path references signatures url',
    )
    assert.deepEqual(info.references, [])
    assert.deepEqual(info.signatures, [])
    // The default is from the time before caches named the compression.
    assert.equal(info.compression, 'bzip2')
  })

  test('or be empty', () => {
    const empty = { Compression: '', References: '', Deriver: '', CA: '', FileHash: '' }
    assert.deepEqual(
      parse(narInfo({ ...empty, FileSize: '' })),
      parse(
        narInfo({
          Compression: undefined,
          References: undefined,
          Deriver: undefined,
          FileHash: undefined,
          FileSize: undefined,
        }),
      ),
    )
  })

  test('the size of the file may be unknown: Nix writes 0', () => {
    assert.deepEqual(parse(narInfo({ FileSize: '0' })), parse(narInfo({ FileSize: undefined })))
  })

  test('a deriver may be unknown', () => {
    assert.equal(parse(narInfo({ Deriver: 'unknown-deriver' })).deriver, undefined)
  })

  test('unknown fields are ignored', () => {
    assert.deepEqual(parse(narInfo({ System: 'x86_64-linux', 'X-New': 'a: b' })), parse(narInfo()))
  })
})

test('every compression that caches use', () => {
  for (const compression of ['xz', 'zstd', 'none', 'bzip2', 'br', 'gzip']) {
    assert.equal(parse(narInfo({ Compression: compression })).compression, compression)
  }
})

test('references are sorted and unique, including self-references', () => {
  const own = path.slice('/nix/store/'.length)
  const shuffled = [references[2], own, references[0], references[2]].join(' ')
  assert.deepEqual(
    parse(narInfo({ References: shuffled })).references,
    [references[0], references[2], own].map((name) => `/nix/store/${name}`),
  )
})

test('several signatures are kept in their order', () => {
  const text = `${narInfo()}Sig: b-1:AAAA\nSig: a-1:BBBB\n`
  assert.deepEqual(parse(text).signatures, [fields['Sig'], 'b-1:AAAA', 'a-1:BBBB'])
})

test('a thousand references and lines that end as in DOS', () => {
  const many = Array.from({ length: 1000 }, (_, number) => {
    return `${'0'.repeat(28)}${String(number).padStart(4, '0')}-reference`
  })
  const text = narInfo({ References: many.join(' ') }).replaceAll('\n', '\r\n')
  assert.equal(parse(text).references.length, 1000)
})

suite('a narinfo is refused', () => {
  function assertRefused(text: string, why: Expected): void {
    assert.throws(
      () => parse(text),
      (error) => {
        assertError(
          error,
          'bad-narinfo',
          /^the-narinfo is not a narinfo of \/nix\/store\/syd87/,
          why,
        )
        // The size of the wrong value does not matter.
        assert.ok(error.message.length < 1000)
        return true
      },
    )
  }

  for (const key of ['StorePath', 'URL', 'NarHash', 'NarSize']) {
    test(`without ${key}`, () => {
      assertRefused(narInfo({ [key]: undefined }), { path, field: key })
      assertRefused(narInfo({ [key]: '' }), { path, field: key })
    })
  }

  for (const key of Object.keys(fields).filter((key) => key !== 'Sig')) {
    test(`with ${key} twice`, () => {
      assertRefused(`${narInfo()}${key}: ${fields[key]}\n`, { path, field: key })
    })
  }

  test('of another path', () => {
    const other = '/nix/store/0jqd0rlxzra1rs38rdxl43yh6rxchgc6-curl-7.82.0'
    assertRefused(narInfo({ StorePath: other }), {
      field: 'StorePath',
      expected: path,
      actual: other,
    })
    // The narinfo of this path would have the same name in a cache.
    assertRefused(narInfo({ StorePath: `${path}-more` }), {
      field: 'StorePath',
      expected: path,
      actual: `${path}-more`,
    })
  })

  const badValues: Record<string, string[]> = {
    StorePath: ['/etc/passwd', path.slice(11), `/gnu${path.slice(4)}`, `${path}/bin`],
    FileHash: ['sha256:0', `sha512:${'0'.repeat(128)}`, 'md5:d41d8cd98f00b204e9800998ecf8427e'],
    FileSize: ['-1', '00', '1.5', '1e3', '0x10', 'many', '9007199254740993', '1'.repeat(40)],
    NarHash: [
      'sha256:0',
      `sha1:${'0'.repeat(40)}`,
      '1b4sb93wp679q4zx9k1ignby1yna3z7c4c2ri3wphylbc2dwsys0',
    ],
    NarSize: ['-1', '0', '1.5', '1e3', '0x10', 'many', '9007199254740993', '18446744073709551616'],
    References: [
      '../etc',
      'name',
      `/nix/store/${references[0]}`,
      `${references[0]},${references[1]}`,
      `${references[0]} ${references[1]}/bin`,
      '0'.repeat(1_000_000),
    ],
    Deriver: ['curl.drv', '/nix/store/5rwxzi7pal3qhpsyfc16gzkh939q1np6-curl-7.82.0.drv', '..'],
  }
  for (const [key, values] of Object.entries(badValues)) {
    for (const value of values) {
      const shown = value.length > 60 ? `${value.slice(0, 60)}…` : value
      test(`whose ${key} is ${shown}`, () => {
        assertRefused(narInfo({ [key]: value }), { path, field: key, actual: value.slice(0, 200) })
      })
    }
  }

  for (const compression of ['lzma', 'XZ', '__proto__', 'xz zstd']) {
    test(`whose Compression is ${compression}`, () => {
      assert.throws(
        () => parse(narInfo({ Compression: compression })),
        (error) => {
          assertError(error, 'bad-narinfo', { path, field: 'Compression', actual: compression })
          assert.match(error.hint ?? '', / none, xz, zstd/)
          return true
        },
      )
    })
  }

  test('that has another format', () => {
    assertRefused('', /it has no StorePath|cut off/)
    assertRefused('<html>\n<title>Sign in</title>\n</html>\n', /is not "Key: value"/)
    assertRefused('404\n', /is not "Key: value"/)
    assertRefused(': value\n', /is not "Key: value"/)
    assertRefused(`\u{feff}${narInfo()}`, /it has no StorePath/)
    assertRefused(`\n${narInfo()}`, /is not "Key: value"/)
    assertRefused(`${'x'.repeat(100_000)}\n`, /is not "Key: value"/)
  })

  test('that is cut off at any byte', () => {
    const whole = narInfo()
    const signature = whole.indexOf('Sig:')
    for (let end = 0; end < whole.length; end++) {
      const cut = whole.slice(0, end)
      // Between two lines after the last required field, the narinfo is shorter but valid.
      if (cut.endsWith('\n') && end > whole.indexOf('NarSize:') + 'NarSize: 196040'.length) {
        assert.ok(end <= signature)
        continue
      }
      assertRefused(cut, /cut off|it has no/)
    }
  })

  test('or is valid, for any bytes', () => {
    const whole = narInfo()
    const change = fc.record({
      at: fc.nat(whole.length - 1),
      remove: fc.integer({ min: 0, max: 8 }),
      insert: fc.string({ unit: fc.constantFrom(...': \n\r\0/a0-.é'.split('')), maxLength: 6 }),
    })
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 4 }), (changes) => {
        let text = whole
        for (const { at, remove, insert } of changes) {
          text = text.slice(0, at) + insert + text.slice(at + remove)
        }
        try {
          const info = parse(text)
          assert.equal(info.path, path)
          assert.ok(info.narSize > 0)
          assert.equal(formatHash(info.narHash).length, 59)
        } catch (error) {
          assertError(error, 'bad-narinfo')
        }
      }),
      { numRuns: 2000 },
    )
  })
})

test('every narinfo of real Nix has the facts that Nix knows', async () => {
  const directory = temporaryDirectory()
  const world = await createNixWorld(join(directory, 'world'))
  const shell = await addBuilderShell(world, await findStaticBusybox())
  // With a deriver and a reference to itself.
  const [built = ''] = await world.build(
    { file: join(import.meta.dirname, '../support/closures.nix') },
    { attribute: 'selfReference', strings: { shell, noise: shell } },
  )
  // With a content address and references to others.
  const text = `\${builtins.storePath "${built}"} \${builtins.toFile "other" "text"}`
  const expression = `builtins.toFile "text" "${text}"`
  const root = await world.nix(['eval', '--impure', '--raw', '--expr', expression])
  const [one, two] = [await world.generateKey('test-1'), await world.generateKey('test-2')]
  await world.sign([root, built], two.secretKeyFile)
  const cache = join(directory, 'cache')
  const options = { compression: 'zstd', secretKeyFile: one.secretKeyFile } as const
  await world.copyToCache([root, shell], cache, options)
  const paths = await world.closure([root, shell])
  await world.sign(paths, one.secretKeyFile)

  const infos = (await world.pathInfo(paths)).map(toPathInfo)
  assert.ok(infos.some((info) => info.deriver !== undefined && info.references.includes(info.path)))
  assert.ok(infos.some((info) => info.ca !== undefined && info.references.length === 2))
  assert.ok(infos.some((info) => info.signatures.length === 2))
  for (const known of infos) {
    const file = join(cache, `${hashPartOf(known.path)}.narinfo`)
    const info = parseNarInfo(await readFile(file, 'utf8'), known.path, file)
    const { url, compression, fileHash, fileSize, ...pathInfo } = info
    assert.deepEqual(pathInfo, known)
    assert.equal(compression, 'zstd')
    const nar = join(cache, url)
    assert.equal((await stat(nar)).size, fileSize)
    const digest = createHash('sha256')
      .update(await readFile(nar))
      .digest('hex')
    assert.deepEqual(fileHash, { algorithm: 'sha256', hex: digest })
  }
})
