// Compares with curl, because Nix lets curl read the netrc file.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { Server } from 'node:http'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import fc from 'fast-check'
import { basicAuthorization, credentialsFor, parseNetrc } from '../../../src/nix/stores/netrc.ts'
import { filterThrough } from '../../support/programs.ts'
import { temporaryDirectory } from '../../support/temporary.ts'
import { endsInTime } from '../../support/waiting.ts'

function authorization(text: string, hostname: string, login?: string): string | undefined {
  const credentials = credentialsFor(parseNetrc(text), hostname, login)
  return credentials && basicAuthorization(credentials)
}

const basic = (login: string, password: string) =>
  `Basic ${Buffer.from(`${login}:${password}`).toString('base64')}`

suite('a netrc file is read as in curl', () => {
  const file = join(temporaryDirectory(), 'netrc')
  let server: Server
  let port: number

  before(async () => {
    // The server answers with the header of the request.
    server = createServer((request, response) => {
      response.end(request.headers.authorization ?? 'none')
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const address = server.address()
    assert.ok(address !== null && typeof address === 'object')
    port = address.port
  })
  after(() => server.close())

  async function curlAuthorization(
    text: string,
    hostname: string,
    login?: string,
  ): Promise<string | undefined> {
    writeFileSync(file, text)
    const url = `http://${login === undefined ? '' : `${login}@`}${hostname}:${port}/`
    const resolve = ['--resolve', `${hostname}:${port}:127.0.0.1`]
    const args = ['--disable', '--silent', '--noproxy', '*', '--netrc-file', file]
    const more = ['--netrc-optional', ...resolve, url]
    const sent = (await filterThrough('curl', [...args, ...more])).toString()
    return sent === 'none' ? undefined : sent
  }

  const machine = 'machine cache.example login me password secret\n'
  const texts: Record<string, string> = {
    'one line': machine,
    'a line for each word': 'machine\ncache.example\nlogin\nme\npassword\nsecret\n',
    'tabs and blanks': '  machine\tcache.example   login  me\n\tpassword secret  \n',
    'no newline at the end': machine.trimEnd(),
    'the password before the login': 'machine cache.example password secret login me\n',
    'other machines around it': `machine a login x password y\n${machine}machine b login z password w\n`,
    'the same machine twice': `${machine}machine cache.example login second password other\n`,
    'another machine only': 'machine other.example login x password y\n',
    'a machine whose name begins the same': 'machine cache.example.org login x password y\n',
    'a machine name that is a part of the name': 'machine example login x password y\n',
    'a default': 'default login any password thing\n',
    'a default after another machine':
      'machine other login x password y\ndefault login any password thing\n',
    'a default after the machine': `${machine}default login any password thing\n`,
    'capitals in the name': 'machine CACHE.Example login me password secret\n',
    comments: `# machine cache.example login no password no\n${machine}# the end\n`,
    'a comment behind words': 'machine cache.example # the cache\nlogin me # I\npassword secret\n',
    'a number sign inside a password': 'machine cache.example login me password a#b\n',
    'an account': 'machine cache.example login me account x password secret\n',
    'a quoted password': 'machine cache.example login me password "two words"\n',
    'a quoted password with quotes': 'machine cache.example login me password "a\\"b\\\\c"\n',
    'escapes in a quoted password': 'machine cache.example login me password "a\\tb\\nc\\rd\\x"\n',
    'a quote inside a password': 'machine cache.example login me password a"b\n',
    'something behind a quote': 'machine cache.example login me password "a"#b\n',
    'an empty quoted password': 'machine cache.example login me password ""\n',
    'a quoted password that begins with a number sign':
      'machine cache.example login me password "#1"\n',
    'a password that begins with a number sign, and so is a comment':
      'machine cache.example login me password #1\n',
    'no password': 'machine cache.example login me\n',
    'no login': 'machine cache.example password secret\n',
    'a quoted login': 'machine cache.example login "m e" password secret\n',
    'a password of special characters':
      'machine cache.example login me password !$%&/()=?{[]}+*~\n',
    'a password that is not ASCII': 'machine cache.example login me password pässwörd\n',
    'a password that is a keyword': 'machine cache.example login me password machine\n',
    'a macro before': `macdef init\nmachine cache.example login no password no\n\n${machine}`,
    'a macro after': `${machine}macdef init\nlogin no\npassword no\n\n`,
    'lines that end as in DOS': machine.replaceAll('\n', '\r\n'),
  }
  for (const [name, text] of Object.entries(texts)) {
    test(name, async () => {
      const expected = await curlAuthorization(text, 'cache.example')
      assert.equal(authorization(text, 'cache.example'), expected)
    })
  }

  const several = `${machine}machine cache.example login you password other\n`
  for (const login of ['me', 'you']) {
    test(`the password of ${login}, the login in the URL`, async () => {
      const expected = await curlAuthorization(several, 'cache.example', login)
      assert.equal(authorization(several, 'cache.example', login), expected)
      assert.equal(expected, basic(login, login === 'me' ? 'secret' : 'other'))
    })
  }

  test('curl finds credentials in the samples', async () => {
    assert.equal(await curlAuthorization(machine, 'cache.example'), basic('me', 'secret'))
  })
})

test('a login without an entry does not get the password of another login', () => {
  const others = 'machine cache login me password secret\ndefault login any password thing\n'
  assert.equal(authorization(others, 'cache', 'you'), undefined)
  assert.equal(
    authorization(`machine cache password secret\n`, 'cache', 'you'),
    basic('you', 'secret'),
  )
})

test('written credentials are found', () => {
  const word = fc.stringMatching(/^[a-z0-9._-]{1,12}$/)
  const secret = fc.string({ minLength: 1 }).filter((text) => !/[\r\n]/.test(text))
  const quoted = (text: string) => `"${text.replace(/["\\]/g, '\\$&')}"`
  const entries = fc.uniqueArray(fc.record({ name: word, login: secret, password: secret }), {
    selector: ({ name }) => name,
  })
  fc.assert(
    fc.property(entries, (entries) => {
      const text = entries
        .map(({ name, login, password }) => {
          return `machine ${name}\n  login ${quoted(login)}\n  password ${quoted(password)}\n`
        })
        .join('\n')
      for (const { name, login, password } of entries) {
        assert.equal(authorization(text, name), basic(login, password))
      }
      assert.equal(authorization(text, 'NOT-THERE'), undefined)
    }),
  )
})

test('no text makes the parser fail', () => {
  const words = fc.constantFrom(
    'machine',
    'login',
    'password',
    'default',
    'macdef',
    'account',
    'name',
    '"',
    '\\',
    '#',
    '\n',
    ' ',
    '\0',
  )
  fc.assert(
    fc.property(fc.array(fc.oneof(words, fc.string())), (parts) => {
      const netrc = parseNetrc(parts.join(' '))
      for (const { name } of netrc.machines) assert.ok(credentialsFor(netrc, name))
    }),
  )
})

test('the time does not grow with the square of the number of quotes', () => {
  for (const text of ['"\\', 'macdef ', '\n ', 'machine a ', '# ']) {
    endsInTime(() => parseNetrc(text.repeat(1_000_000)))
  }
})
