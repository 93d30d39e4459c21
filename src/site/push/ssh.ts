/** Starts `netimage site receive` on another server, over the person's own ssh. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Readable, Writable } from 'node:stream'

import { errnoOf, NetimageError } from '../../errors.ts'
import { goesOnHint } from './channel.ts'

export interface OtherServer {
  /** As the person wrote it. */
  url: string
  /** `user@server`, or a name of ssh's configuration. */
  destination: string
  port?: string
}

const urlPattern =
  /^ssh:\/\/((?:[\w.+][\w.+-]*@)?(?:[A-Za-z0-9_][\w.-]*|\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\]))(?::(\d{1,5}))?\/?$/

/** @throws `NetimageError` `bad-usage` */
export function parseSshUrl(url: string): OtherServer {
  const [, named, port] = urlPattern.exec(url) ?? []
  if (named !== undefined) {
    // In brackets only because of the port.
    const destination = named.replace(/\[(.*)\]$/, '$1')
    return { url, destination, ...(port !== undefined && { port }) }
  }
  throw new NetimageError('bad-usage', `${url} is no server that ssh can reach`, {
    details: { actual: url },
    hint: 'Write the server as ssh://user@server:port; user and port may be left out. Name its state directory with --remote-state, and a password cannot be given here.',
  })
}

/** `netimage site receive` on the other server. */
export interface Receiver {
  input: Readable
  output: Writable
  /** Tells why ssh, or the program there, ended. Ends ssh if it does not end by itself. */
  whyEnded(): Promise<NetimageError>
  /** Waits until ssh has ended. */
  close(): Promise<void>
}

export interface ReceiverSettings {
  /** The command of netimage on the other server, for its shell. Default: `netimage` */
  program?: string | undefined
  /** The state directory there. */
  state?: string | undefined
  /** Options for ssh, separated by spaces. */
  options?: string | undefined
  /** Gets each line that ssh, or a program on the other server, writes to stderr. */
  onLine: (line: string) => void
}

/** What ssh writes is shown up to these limits, because the other server may write without an end. */
const [mostLines, longestLine, lastLines] = [100, 500, 5]
/** How long ssh may take to end when the other server has closed the connection. */
const patienceMs = 5000
/** ssh itself failed. [ssh(1)] */
const failedItself = 255
/** The shell there did not find the program, or could not run it. [sh(1)] */
const notFound = new Set([126, 127])

export function startReceiver(server: OtherServer, settings: ReceiverSettings): Receiver {
  const { program = 'netimage', state, options = '', onLine } = settings
  const { destination, port } = server
  const command = [
    program,
    'site',
    'receive',
    ...(state === undefined ? [] : ['--state', quote(state)]),
  ]
  const args = [
    ...options.split(/\s+/).filter(Boolean),
    ...['-T', '-x', ...(port === undefined ? [] : ['-p', port])],
    ...['--', destination, command.join(' ')],
  ]
  const child = spawn('ssh', args, { stdio: ['pipe', 'pipe', 'pipe'] })
  // A failure to end it, because root has become another user.
  child.on('error', () => {})
  const last: string[] = []
  onLines(child.stderr, (line) => {
    last.push(line)
    if (last.length > lastLines) last.shift()
    onLine(line)
  })
  const closed: Promise<number | string> = once(child, 'close').then(
    ([status, signal]) => status ?? signal,
    (error: unknown) => errnoOf(error) ?? 'nothing',
  )

  async function ended(): Promise<number | string> {
    child.stdin.end()
    child.stdout.destroy()
    const timer = setTimeout(() => child.kill(), patienceMs)
    try {
      return await closed
    } finally {
      clearTimeout(timer)
    }
  }

  return {
    ...{ input: child.stdout, output: child.stdin },
    async whyEnded() {
      return explain(await ended(), last.join('\n'), server)
    },
    async close() {
      await ended()
    },
  }
}

function explain(status: number | string, said: string, { url }: OtherServer): NetimageError {
  const words = said === '' ? '' : `: ${said}`
  if (status === 'ENOENT') {
    return new NetimageError('program-missing', 'the program ssh is not installed', {
      details: { expected: 'ssh' },
      hint: 'Install the OpenSSH client.',
    })
  }
  if (status === failedItself) {
    return new NetimageError('remote-failed', `ssh has no connection to ${url}${words}`, {
      hint: `Try it: ssh ${url} true. Options for ssh can be in ~/.ssh/config or in NETIMAGE_SSHOPTS. ${goesOnHint}`,
    })
  }
  if (typeof status === 'number' && notFound.has(status)) {
    return new NetimageError('program-missing', `netimage could not be started at ${url}${words}`, {
      details: { expected: 'netimage' },
      hint: 'Install netimage there, or say where it is: --remote-program /run/current-system/sw/bin/netimage.',
    })
  }
  const how = `the program at ${url} ended with ${status}${words}`
  return new NetimageError('remote-failed', how, {
    hint: `An older netimage has no \`site receive\`: compare netimage --version on both servers. ${goesOnHint}`,
  })
}

/** Lines are cut, and only the first ones count. */
function onLines(stream: Readable, onLine: (line: string) => void): void {
  let lines = 0
  let rest = ''
  const tell = (line: string) => {
    if (line.trim() !== '' && ++lines <= mostLines) onLine(line.trim().slice(0, longestLine))
  }
  stream.setEncoding('utf8')
  stream.on('data', (text: string) => {
    const [first = '', ...more] = text.split('\n')
    rest = (rest + first).slice(0, longestLine)
    for (const next of more) {
      tell(rest)
      rest = next.slice(0, longestLine)
    }
  })
  stream.on('end', () => tell(rest))
}

/** For the shell on the other server. */
function quote(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`
}
