/** The OpenAPI document of the page's server. https://spec.openapis.org/oas/v3.1.1 */
import { toJsonSchemaDefs } from '@valibot/to-json-schema'

import { version } from '../../src/version.ts'
import * as schemas from './schemas.ts'

const { fits: _, ...definitions } = schemas
type Name = keyof typeof definitions

interface Parameter {
  name: string
  in: 'path' | 'query'
  required?: true
  description: string
  schema: object
}

const numberOf = (what: string, byDefault: number): Parameter => ({
  ...{ name: 'number', in: 'query', description: `At most so many ${what}, the newest.` },
  schema: { type: 'integer', minimum: 1, maximum: 500, default: byDefault },
})
const machineInPath: Parameter = {
  ...{ name: 'machine', in: 'path', required: true, schema: { type: 'string' } },
  description: 'Its hardware or IP address, or its name.',
}
const whole = { type: 'integer', minimum: 0 }

const answer = (one: Name) => ({ 'application/json': { schema: { $ref: refTo(one) } } })
const failed = (description: string) => ({ description, content: answer('failed') })

const ofAllPaths = {
  403: failed('The server does not have the name or address in `Host`.'),
  405: failed('The method is neither GET nor HEAD.'),
  500: failed('A defect of netimage; the server has told of it.'),
}

const paths: Record<string, object> = {
  '/api/site': get('The server.', 'site'),
  '/api/images': get('The images of the site.', 'images'),
  '/api/machines': get('All machines.', 'machines', [
    {
      ...{ name: 'machine', in: 'query', description: 'Only the machine with this address.' },
      schema: { type: 'array', items: { type: 'string' } },
    },
  ]),
  '/api/machines/{machine}': get('One machine.', 'machineInFull', [machineInPath]),
  '/api/machines/{machine}/boots': get(
    'The boots of a machine, and the events of the newest one.',
    'boots',
    [machineInPath, numberOf('boots', 20)],
  ),
  '/api/machines/{machine}/boots/{started}': get('One boot and its events.', 'oneBoot', [
    machineInPath,
    {
      ...{ name: 'started', in: 'path', required: true, schema: whole },
      description: 'The start of the boot. Milliseconds since 1970.',
    },
  ]),
  '/api/groups': get('The groups and their newest roll-outs.', 'groups'),
  '/api/groups/{group}': get('One group.', 'group', [
    {
      ...{ name: 'group', in: 'path', required: true, schema: { type: 'string' } },
      description: 'Its name.',
    },
  ]),
  '/api/boots': get('The boots of all machines.', 'boots', [numberOf('boots', 20)]),
  '/api/log': get('Who did what, and what the server decided.', 'log', [
    numberOf('rows', 50),
    {
      ...{ name: 'machine', in: 'query', schema: { type: 'string' } },
      description: 'Only rows about the machine with this address or name.',
    },
    {
      ...{ name: 'since', in: 'query', schema: whole },
      description: 'Only rows from this time on. Milliseconds since 1970.',
    },
    {
      ...{ name: 'after', in: 'query', schema: whole },
      description: 'Only rows with a higher number.',
    },
  ]),
  '/api/targets': get('The machines, for the HTTP service discovery of Prometheus.', 'targets', [
    {
      ...{ name: 'port', in: 'query', description: 'The port of the targets.' },
      schema: { type: 'integer', minimum: 1, maximum: 65_535, default: 9100 },
    },
  ]),
  '/api/events': {
    get: {
      summary: 'What changes, as it changes: server-sent events `hello`, `changed` and `problem`.',
      responses: {
        200: { description: 'It does not end.', content: { 'text/event-stream': {} } },
        ...ofAllPaths,
        503: failed('Too many clients listen.'),
      },
    },
  },
  '/metrics': {
    get: {
      summary: 'The metrics for Prometheus.',
      responses: {
        200: { description: 'Text.', content: { 'text/plain': {} } },
        ...ofAllPaths,
      },
    },
  },
}

function get(summary: string, name: Name, parameters: readonly Parameter[] = []): object {
  const has = (place: Parameter['in']) => parameters.some((each) => each.in === place)
  return {
    get: {
      summary,
      ...(parameters.length > 0 && { parameters }),
      responses: {
        200: { description: 'As it is now.', content: answer(name) },
        304: { description: 'The same as the client has, by its `If-None-Match`.' },
        ...(parameters.length > 0 && { 400: failed('A bad query or path.') }),
        ...ofAllPaths,
        ...(has('path') && { 404: failed('There is none.') }),
        503: failed('It cannot be read at the moment.'),
      },
    },
  }
}

function refTo(name: string): string {
  return `#/components/schemas/${name}`
}

/** @param isStrict whether answers may have nothing else. Clients must expect more from later versions. */
export function openApi(isStrict: boolean): object {
  const components = toJsonSchemaDefs(definitions, {
    ...{ target: 'draft-2020-12', errorMode: 'throw', ignoreActions: ['readonly'] },
    overrideRef: ({ referenceId }) => refTo(referenceId),
  })
  const document = {
    openapi: '3.1.1',
    info: {
      ...{ title: 'netimage', version, license: { name: 'MIT', identifier: 'MIT' } },
      description: 'What `netimage serve` tells of its machines. It can only be read.',
    },
    paths,
    components: { schemas: components },
  }
  return isStrict ? document : withoutLimits(document)
}

/** The text of the file that the server has. */
export function openApiText(): string {
  return `${JSON.stringify(openApi(false), undefined, 2)}\n`
}

function withoutLimits(document: object): object {
  const text = JSON.stringify(document, (key, value: unknown) =>
    key === 'additionalProperties' && value === false ? undefined : value,
  )
  const copy: unknown = JSON.parse(text)
  return typeof copy === 'object' && copy !== null ? copy : {}
}
