// The output of the program: the result on stdout, everything else on stderr, and no stack traces.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { stripTypeScriptTypes } from 'node:module'
import { basename, delimiter, dirname, join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { startFakeCache } from '../support/fake-cache.ts'
import { cli, failureOf, netimage, parseObject, repository } from '../support/netimage.ts'
import { runProgram } from '../support/real-nix.ts'
import { cacheFiles, inventLargeSystem, makeKey, writeCache } from '../support/synthetic.ts'
import { makeWorkspace, type Workspace } from '../support/workspace.ts'

const key = makeKey('output-1')
const { toplevel, all } = inventLargeSystem('output', { paths: 20, bytes: 50_000, keys: [key] })

let workspace: Workspace
let images = 0
before(() => {
  workspace = makeWorkspace('output')
  writeCache(workspace.path('cache'), all)
})
after(() => workspace.remove())

const nextImage = () => workspace.path('out', `${images++}`)
const command = (image: string, ...more: string[]) => [
  ...['build', toplevel, '-o', image, '--trusted-public-keys', key.publicKey, ...more],
  ...(more.includes('--from') ? [] : ['--from', `file://${workspace.path('cache')}`]),
]
const ownPool = () => ['--pool', workspace.path(`pool-${images}`)]

const assertClean = (text: string) => {
  assert.doesNotMatch(text, /^\s+at |node:internal|\.ts:\d+|Error:/m)
}

suite('on stdout', { concurrency: 3 }, () => {
  test('there is the path of the image, and on stderr the progress', async () => {
    const image = nextImage()
    const run = await netimage(command(image, ...ownPool()))
    assert.equal(run.stdout, `${image}\n`)
    const lines = run.stderr.trimEnd().split('\n')
    const patterns = [
      /^found the closure: 22 paths in \d+\.\d s$/,
      /^unpacked and verified 22 paths in \d+\.\d s$/,
      /^placed 22 paths \((copy|reflink)\) in \d+\.\d s$/,
      /^built output \(22 store paths, 987 KiB\)/,
    ]
    const found = patterns.map((pattern) => lines.findIndex((line) => pattern.test(line)))
    assert.deepEqual(
      found,
      found.toSorted((a, b) => a - b),
      run.stderr,
    )
    assert.ok(!found.includes(-1), run.stderr)
    assert.ok(lines.length < 10, run.stderr)
    assert.ok(!run.stderr.includes('\u001b'))
  })

  test('there is nothing else with --quiet', async () => {
    const image = nextImage()
    const run = await netimage(command(image, '--quiet', ...ownPool()))
    assert.deepEqual([run.stdout, run.stderr], [`${image}\n`, ''])
    const verified = await netimage(['verify', image, '-q'])
    assert.match(verified.stdout, /^\S+ is whole: 22 store paths and \d+ other files\n$/)
    assert.equal(verified.stderr, '')
  })

  test('there is one object with --json', async () => {
    const image = nextImage()
    const run = await netimage(command(image, '--json', ...ownPool()))
    const { narBytes, nfsRoot, ...result } = parseObject(run.stdout)
    assert.deepEqual(
      { ...result, findings: undefined },
      {
        findings: undefined,
        image,
        toplevel,
        label: 'output',
        platform: 'x86_64-linux',
        rootDirectoryName: 'nixos-net-image-output-x86_64-linux',
        storePaths: 22,
      },
    )
    assert.equal(
      narBytes,
      all.reduce((sum, { narSize }) => sum + narSize, 0),
    )
    assert.equal(typeof nfsRoot, 'string')
    for (const args of [
      ['inspect', image],
      ['verify', image],
      ['gc', '--pool', workspace.path('x')],
    ]) {
      const run = await netimage([...args, '--json'])
      assert.equal(run.status, 0, run.stderr)
      assert.ok(Object.keys(parseObject(run.stdout)).length > 2)
    }
  })

  test('there is one object for an error with --json, and nothing without --json', async () => {
    const args = ['verify', '/nowhere']
    const run = await netimage([...args, '--json'])
    const { code, message, hint } = failureOf(run)
    assert.equal(code, 'not-an-image')
    assert.equal(run.stderr, `error: ${message} [${code}]\n  ${hint}\n`)
    const plain = await netimage(args)
    assert.deepEqual([plain.stdout, plain.stderr, plain.status], ['', run.stderr, 3])
  })

  test('a reader may close the pipe', async () => {
    const image = nextImage()
    await netimage(command(image, ...ownPool()))
    const script = `set -o pipefail; "$@" | true; echo $? >&2`
    const inspected = await netimage(['inspect', image], {
      through: ['bash', '-c', script, 'bash'],
    })
    assert.equal(inspected.stderr, '0\n')
  })
})

suite('wrong usage', { concurrency: 4 }, () => {
  const system = `/nix/store/${'0'.repeat(32)}-x`
  const cases: Record<string, string[]> = {
    'an unknown flag': ['build', system, '--no-such-flag'],
    'an unknown command': ['bild', system],
    'no system': ['build'],
    'two systems': ['build', system, system],
    'an unknown way to link': ['build', system, '--link', 'symlink'],
    'an unknown format': ['build', system, '--format', 'zip'],
    'a flag without its value': ['build', system, '--from'],
    'no image': ['verify'],
  }
  for (const [what, args] of Object.entries(cases)) {
    test(`${what}: exit status 2`, async () => {
      const run = await netimage(args)
      assert.equal(run.status, 2)
      assert.equal(run.stdout, '')
      assert.match(run.stderr, /^error: /)
      assertClean(run.stderr)
    })
    test(`${what}, with --json: bad-usage`, async () => {
      const [name = '', ...rest] = args
      const run = await netimage([name, '--json', ...rest])
      assert.equal(run.status, 2)
      assert.equal(failureOf(run).code, 'bad-usage')
      assert.match(run.stderr, /^error: /)
    })
  }

  test('no arguments: the help, and exit status 2', async () => {
    const run = await netimage([])
    assert.equal(run.status, 2)
    assert.match(run.stderr, /^Usage: netimage /)
  })

  test('--help and --version: exit status 0, on stdout', async () => {
    for (const args of [['--help'], ['build', '--help'], ['--version']]) {
      const run = await netimage(args)
      assert.deepEqual([run.status, run.stderr], [0, ''])
      assert.notEqual(run.stdout, '')
    }
    const { version } = parseObject(readFileSync(join(repository, 'package.json'), 'utf8'))
    assert.equal((await netimage(['--version'])).stdout, `${String(version)}\n`)
  })
})

suite('progress', { concurrency: 2 }, () => {
  /** The output to a terminal: stdout and stderr together. */
  async function onTerminal(args: string[], columns = 80, then = ''): Promise<string> {
    const quoted = [process.execPath, cli, ...args].map(
      (word) => `'${word.replaceAll("'", `'\\''`)}'`,
    )
    const line = `stty cols ${columns}; ${quoted.join(' ')} ${then}`
    return await runProgram('script', ['-qec', line, '/dev/null'], {
      environment: { ...process.env, HOME: workspace.directory, TERM: 'xterm' },
    })
  }

  /** Sends each NAR in pieces, so that there is progress to show. */
  const slowly = () =>
    startFakeCache(cacheFiles(all), {
      lie: ({ name }, honest) => {
        const { body } = honest
        if (!name.startsWith('nar/') || !Buffer.isBuffer(body)) return honest
        return { ...honest, body: inPieces(body) }
      },
    })

  test('on a terminal redraws a line', async () => {
    const cache = await slowly()
    try {
      const image = nextImage()
      const args = command(image, '--from', cache.url, ...ownPool())
      const output = await onTerminal(args, 120)
      const drawn = output.split('\n').flatMap((line) => line.split('\r\u001b[K'))
      const unpacking = drawn.filter((line) => line.startsWith('unpacking  '))
      assert.ok(unpacking.length > 3, output)
      const pattern = /^unpacking {2}\d+ of 22 paths, [\d.]+ [KM]?i?B of [\d.]+ [KM]iB/
      assert.match(unpacking.at(-1) ?? '', pattern)
      assert.ok(unpacking.some((line) => /B downloaded, /.test(line)))
      assert.ok(unpacking.some((line) => /MiB\/s, .* left$|KiB\/s, .* left$/.test(line.trimEnd())))
      // Lines of finished tasks stay, and no line is wider than the terminal.
      assert.match(output, /\u001b\[Kunpacked and verified 22 paths in \d/)
      for (const line of drawn) assert.ok(line.trimEnd().length < 120 || line.includes(image), line)
      assert.match(output, new RegExp(`${image}\\r?\\n$`))
    } finally {
      await cache.close()
    }
  })

  test('on a narrow terminal fits on one line', async () => {
    const output = await onTerminal(command(nextImage(), ...ownPool()), 30)
    const drawn = output.split('\n').flatMap((line) => line.split('\r\u001b[K'))
    for (const line of drawn.filter((line) => /^(finding|unpacking|placing)/.test(line))) {
      assert.ok(line.length <= 30, line)
    }
  })

  test('in a pipe is a few plain lines', async () => {
    const cache = await slowly()
    try {
      const run = await netimage(command(nextImage(), '--from', cache.url, ...ownPool()))
      assert.equal(run.status, 0, run.stderr)
      assert.doesNotMatch(run.stderr, /[\r\u001b]/)
      assert.ok(run.stderr.split('\n').length < 10, run.stderr)
    } finally {
      await cache.close()
    }
  })

  test('of a task that fails leaves the error on its own line', async () => {
    const output = await onTerminal(['verify', '/nowhere'], 80, '|| true')
    assert.match(
      output,
      /(^|\n|\u001b\[K)error: \/nowhere is not a net image.*\[not-an-image\]\r?\n/,
    )
  })
})

suite('with an old Node', () => {
  const sentence = (version: string) =>
    `error: netimage needs Node 24.15 or later, or 26 or later; this is ${version}\n`

  for (const version of ['20.20.2', '22.21.0', '24.14.9', '25.9.0']) {
    test(`${version}, the error names the version that netimage needs`, async () => {
      const pretend = `Object.defineProperty(process, 'versions', { value: { node: '${version}' } });
        Object.defineProperty(process, 'version', { value: 'v${version}' })`
      const run = await netimage(['--version'], {
        node: ['--import', `data:text/javascript,${encodeURIComponent(pretend)}`],
      })
      assert.deepEqual(run, { ...run, status: 1, stdout: '', stderr: sentence(`v${version}`) })
    })
  }

  test('on this machine, the published program gives this error, too', async () => {
    // tsc only removes the types.
    const published = workspace.path('cli.js')
    writeFileSync(workspace.path('package.json'), '{"type": "module"}')
    writeFileSync(published, stripTypeScriptTypes(readFileSync(cli, 'utf8')))
    const places = (process.env['PATH'] ?? '').split(delimiter).map((place) => join(place, 'node'))
    for (const node of new Set([...places, '/usr/bin/node', '/usr/local/bin/node'])) {
      const version = await runProgram(node, ['--version']).catch(() => undefined)
      const major = Number(/^v(\d+)/.exec(version ?? '')?.[1])
      if (version === undefined || major >= 24) continue
      const child = spawn(node, [published, '--version'], { stdio: ['ignore', 'pipe', 'pipe'] })
      let output = ''
      child.stderr.on('data', (text) => (output += String(text)))
      const [status] = await once(child, 'close')
      assert.deepEqual([status, output], [1, sentence(version.trim())])
    }
  })
})

test('only a build of the same image cleans up after a killed build', async () => {
  const image = nextImage()
  // As if a build of this image with --force had been killed between its two renames.
  const remains = `${dirname(image)}/.${basename(image)}.netimage-b.netimage-XyZ123`
  for (const part of ['old', 'image/nix-support', 'image/net-image']) {
    mkdirSync(join(remains, part), { recursive: true })
  }
  const run = await netimage(command(image, ...ownPool()))
  assert.equal(run.status, 0, run.stderr)
  assert.deepEqual(readdirSync(remains).toSorted(), ['image', 'old'])
  rmSync(remains, { recursive: true })
})

test('builds that ended leave no other files', () => {
  const left = readdirSync(workspace.path('out')).filter((name) => name.startsWith('.'))
  assert.deepEqual(left, [])
})

async function* inPieces(bytes: Buffer): AsyncGenerator<Buffer> {
  const size = Math.ceil(bytes.length / 20)
  for (let at = 0; at < bytes.length; at += size) {
    await delay(60)
    yield bytes.subarray(at, at + size)
  }
}
