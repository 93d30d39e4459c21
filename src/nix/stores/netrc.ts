/**
 * The netrc file: credentials by machine name, as curl and Nix read it.
 *
 * https://www.gnu.org/software/inetutils/manual/html_node/The-_002enetrc-file.html
 */

export interface Credentials {
  login: string
  password: string
}

export interface Netrc {
  /** In the order of the file. A machine may have several logins. */
  machines: ({ name: string } & Credentials)[]
  /** The credentials for every machine that has no entry. */
  fallback: Credentials | undefined
}

export const emptyNetrc: Netrc = { machines: [], fallback: undefined }

export function parseNetrc(text: string): Netrc {
  const netrc: Netrc = { machines: [], fallback: undefined }
  let current: Credentials | undefined
  const tokens = tokenize(text)
  for (let token = tokens.next(); !token.done; token = tokens.next()) {
    const argument = (): string => {
      const next = tokens.next()
      return next.done === true ? '' : next.value
    }
    switch (token.value) {
      case 'machine': {
        const machine = { name: argument().toLowerCase(), login: '', password: '' }
        netrc.machines.push(machine)
        current = machine
        break
      }
      case 'default':
        current = { login: '', password: '' }
        netrc.fallback ??= current
        break
      case 'login':
        if (current) current.login = argument()
        break
      case 'password':
        if (current) current.password = argument()
        break
      case 'account':
        argument()
        break
    }
  }
  return netrc
}

/** Yields words and quoted words with backslashes. Skips comments and macros. */
function* tokenize(text: string): Generator<string> {
  const withoutMacros = text.replace(/(^|\s)macdef\s[\s\S]*?(\n\s*\n|$)/g, '\n')
  for (const line of withoutMacros.split('\n')) {
    for (const match of line.matchAll(/"((?:[^"\\]|\\.)*)"|(#.*$)|(\S+)/g)) {
      const [, quoted, comment, word] = match
      if (comment !== undefined) break
      yield quoted === undefined ? (word ?? '') : unescape(quoted)
    }
  }
}

/** As in curl: `\n`, `\r` and `\t` are control characters, any other escape is the character. */
function unescape(quoted: string): string {
  return quoted.replace(/\\(.)/g, (_, character: string) => escapes[character] ?? character)
}

const escapes: Record<string, string> = { n: '\n', r: '\r', t: '\t' }

/**
 * As in curl, the first entry of a machine is used.
 *
 * @param login if given, only an entry with this login, or without a login, is used
 */
export function credentialsFor(
  { machines, fallback }: Netrc,
  hostname: string,
  login?: string,
): Credentials | undefined {
  const own = machines.filter(({ name }) => name === hostname.toLowerCase())
  if (login === undefined) return own[0] ?? fallback
  const entries = [...own, ...(fallback ? [fallback] : [])]
  const found = entries.find((entry) => entry.login === login || entry.login === '')
  return found && { login, password: found.password }
}

/** RFC 7617, section 2 */
export function basicAuthorization({ login, password }: Credentials): string {
  return `Basic ${Buffer.from(`${login}:${password}`).toString('base64')}`
}
