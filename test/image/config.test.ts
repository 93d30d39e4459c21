import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { after, suite, test } from 'node:test'
import type { ErrorCode, ErrorDetails } from '../../src/errors.ts'
import { loadConfig, requestOf } from '../../src/image/config.ts'
import { assertError, netimageError } from '../support/errors.ts'
import { freshNames, temporaryDirectory } from '../support/temporary.ts'

const fresh = freshNames(temporaryDirectory())

/** The config in a new directory, because Node imports a module only once for each path. */
function written(name: string, text: string): string {
  const directory = fresh()
  mkdirSync(directory)
  const file = join(directory, name)
  writeFileSync(file, text)
  return file
}

const path = `/nix/store/${'1'.repeat(32)}-one`
const expected = { nfsRoot: '10.0.0.1:/srv,v4', storePaths: [path] }
const json = JSON.stringify(expected)

const configs: Record<string, string> = {
  'netimage.config.ts': `
    import { defineNetImage, type NetImageOptions } from 'netimage'
    const nfsRoot: string = '10.0.0.1:/srv,v4'
    export default defineNetImage({ nfsRoot, storePaths: ['${path}'] }) satisfies NetImageOptions
  `,
  'netimage.config.mts': `
    const options: { nfsRoot: string, storePaths: string[] } = ${json}
    export default options
  `,
  'netimage.config.js': `
    import { readFileSync } from 'node:fs'
    import { defineNetImage } from 'netimage'
    if (readFileSync(import.meta.filename).length === 0) throw new Error('unreachable')
    export default defineNetImage(${json})
  `,
  'netimage.config.mjs': `export default await Promise.resolve(${json})`,
  'netimage.config.json': json,
  'netimage.config.toml': `
    # as in TOML
    nfsRoot = "10.0.0.1:/srv,v4"
    storePaths = [ '${path}' ]
  `,
}

for (const [name, text] of Object.entries(configs)) {
  test(`${name} is read`, async () => {
    assert.deepEqual(await loadConfig(written(name, text)), expected)
  })

  test(`${name} is read under another name`, async () => {
    const extension = name.slice(name.lastIndexOf('.'))
    assert.deepEqual(await loadConfig(written(`my pi #1?${extension}`, text)), expected)
  })
}

test('a config also has the options of ways of booting', async () => {
  const config = {
    ...expected,
    boot: ['raspberry-pi'],
    deviceTree: 'rockchip/rk3399-rockpro64.dtb',
    firmware: './firmware',
    uboot: './u-boot.bin',
    configTxt: 'dtparam=audio=on\n',
    machines: ['dc-a6-32-01-02-03'],
    silence: ['nfs-lock'],
  }
  const { nfsRoot, storePaths, boot, silence, ...settings } = config
  const read = await loadConfig(written('a.json', JSON.stringify(config)))
  const request = requestOf(read, 'a.json')
  assert.deepEqual(request.options, { nfsRoot, storePaths })
  assert.deepEqual([request.boot, request.silenced], [boot, silence])
  assert.deepEqual(request.bootSettings, { ...settings, ipxe: undefined, uefiStub: undefined })
  assert.deepEqual(requestOf({ boot: [] }, 'nothing').boot, [])
  assert.ok(!('boot' in requestOf({}, 'nothing')))

  for (const [name, value] of Object.entries({
    boot: ['grub'],
    firmware: 1,
    machines: ['dc:a6:32:01:02'],
    silence: 'nfs-lock',
  })) {
    const file = written('a.json', JSON.stringify({ [name]: value }))
    await assert.rejects(loadConfig(file), (error) => {
      assertError(error, 'bad-option', /a\.json/)
      assert.equal(error.details.field?.split('.')[0], name)
      return true
    })
  }
  assert.throws(
    () => requestOf({ silence: ['no-rule'] }, 'a.json'),
    netimageError('bad-option', /a\.json/, { field: 'silence', actual: 'no-rule' }),
  )
})

test('a config may import a file beside it', async () => {
  const file = written('netimage.config.ts', "export { shared as default } from './shared.ts'")
  writeFileSync(join(file, '../shared.ts'), `export const shared: object = ${json}`)
  assert.deepEqual(await loadConfig(file), expected)
})

test('a config may be a promise, or CommonJS, or empty', async () => {
  assert.deepEqual(
    await loadConfig(written('a.ts', `export default Promise.resolve(${json})`)),
    expected,
  )
  assert.deepEqual(await loadConfig(written('b.js', `module.exports = ${json}`)), expected)
  assert.deepEqual(await loadConfig(written('c.ts', '// nothing yet')), {})
  assert.deepEqual(await loadConfig(written('d.toml', '')), {})
})

suite('without a name', () => {
  const here = process.cwd()
  after(() => process.chdir(here))

  for (const name of Object.keys(configs)) {
    test(`${name} of the current directory is read`, async () => {
      process.chdir(join(written(name, configs[name] ?? ''), '..'))
      assert.deepEqual(await loadConfig(undefined), expected)
    })
  }

  test('TypeScript is read before JSON', async () => {
    const file = written('netimage.config.json', '{ "imageBaseName": "json" }')
    writeFileSync(join(file, '../netimage.config.ts'), 'export default { imageBaseName: "ts" }')
    process.chdir(join(file, '..'))
    assert.deepEqual(await loadConfig(undefined), { imageBaseName: 'ts' })
  })

  test('there are no options if there is no config', async () => {
    process.chdir(join(written('other.config.ts', 'throw new Error()'), '..'))
    assert.deepEqual(await loadConfig(undefined), {})
  })
})

suite('a config that fails', () => {
  /** Each has its text, and the message of the config itself, of Node or of a parser. */
  const failing: Record<string, [text: string, said: RegExp]> = {
    'throws.ts': ["throw new Error('of its own')", /of its own/],
    'rejects.mjs': ["export default await Promise.reject(new Error('later'))", /later/],
    'throws-text.js': ["throw 'a text'", /a text/],
    'throws-null.js': ['throw null', /null/],
    'throws-undefined.mjs': ['throw undefined', /undefined/],
    'syntax.js': ['export default {', /Unexpected end of input/],
    'syntax.ts': ['export default {{', /./],
    'enum.ts': ['enum A { b }; export default {}', /enum/],
    'missing-import.ts': ["import './nowhere.ts'; export default {}", /nowhere\.ts/],
    'no-default.ts': ['export const nfsRoot = "x"', /default/],
    'empty.json': ['', /Unexpected end of JSON input/],
    'comments.json': ['{} // text', /JSON/],
    'broken.toml': ['nfsRoot = ', /Invalid TOML document/],
    'twice.toml': ['a = 1\na = 2\n', /Invalid TOML document/],
  }
  for (const [name, [text, said]] of Object.entries(failing)) {
    test(name, async () => {
      const file = written(name, text)
      await assert.rejects(loadConfig(file), netimageError('bad-config', { file }, said))
    })
  }

  test('does not affect the next config', async () => {
    await assert.rejects(loadConfig(written('a.ts', 'throw new Error()')))
    const name = 'netimage.config.ts'
    assert.deepEqual(await loadConfig(written(name, configs[name] ?? '')), expected)
    // Only a config can import netimage if it is not installed beside the importing file.
    await assert.rejects(import(written('b.js', "import 'netimage'")), /Cannot find package/)
  })
})

suite('a config that cannot be read', () => {
  for (const extension of ['ts', 'js', 'json', 'toml']) {
    test(`does not exist (.${extension})`, async () => {
      const file = `${fresh()}.${extension}`
      await assert.rejects(loadConfig(file), netimageError('file-system', { file }, /ENOENT/))
    })

    test(`is a directory (.${extension})`, async () => {
      const directory = `${fresh()}.${extension}`
      mkdirSync(directory)
      await assert.rejects(
        loadConfig(directory),
        netimageError('file-system', { file: directory }, /EISDIR/),
      )
    })
  }

  for (const name of ['config', 'config.yaml', 'config.cjs', '.ts', 'config.ts.bak']) {
    test(`has an unknown extension: ${name}`, async () => {
      const file = written(name, 'export default {}')
      await assert.rejects(loadConfig(file), netimageError('bad-config', { file }))
    })
  }
})

suite('the error names a wrong option', () => {
  const samples: Record<string, [text: string, code: ErrorCode, details: ErrorDetails]> = {
    'a.ts': ['export default { nfsRoot: 5 }', 'bad-option', { field: 'nfsRoot', actual: '5' }],
    'b.json': ['{ "nfsroot": "x" }', 'bad-option', { field: 'nfsroot' }],
    'c.toml': [
      'storePaths = [1979-05-27]',
      'bad-option',
      { field: 'storePaths.0', actual: '"1979-05-27"' },
    ],
    'd.toml': ['[storePaths]\nx = 1', 'bad-option', { field: 'storePaths', actual: '{"x":1}' }],
    'e.json': ['[]', 'bad-config', { actual: '[]' }],
    'text.ts': ['export default "x"', 'bad-config', { actual: "'x'" }],
    'f.json': ['null', 'bad-config', { actual: 'null' }],
    'g.ts': [
      'export default async () => ({})',
      'bad-config',
      { actual: '[AsyncFunction: default]' },
    ],
  }
  for (const [name, [text, code, details]] of Object.entries(samples)) {
    test(name, async () => {
      const file = written(name, text)
      await assert.rejects(loadConfig(file), (error) => {
        assertError(error, code, details)
        assert.ok(error.message.startsWith(file), error.message)
        assert.equal(basename(file), name)
        return true
      })
    })
  }
})
