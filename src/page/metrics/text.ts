/**
 * The text format of Prometheus. https://prometheus.io/docs/instrumenting/exposition_formats/
 *
 * prom-client is not used: it keeps metrics in a register and changes them one by one, but here almost all of them
 * are made anew from the site for each answer. What is left is this file and histogram.ts.
 */

export type Labels = Readonly<Record<string, string | number>>

export interface Sample {
  labels?: Labels
  value: number
  /** What is added to the name: for the parts of a histogram. */
  ending?: string
}

export interface Metric {
  name: string
  type: 'counter' | 'gauge' | 'histogram'
  help: string
  samples: readonly Sample[]
}

export const metricsType = 'text/plain; version=0.0.4; charset=utf-8'

/** The text of all of them is that of each, one after the other. */
export function metricText({ name, type, help, samples }: Metric): string {
  const lines = samples.map(
    ({ labels = {}, value, ending = '' }) => `${name}${ending}${inBraces(labels)} ${value}\n`,
  )
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join('')}`
}

function inBraces(labels: Labels): string {
  const parts = Object.entries(labels).map(([label, value]) => `${label}="${escaped(`${value}`)}"`)
  return parts.length === 0 ? '' : `{${parts.join(',')}}`
}

const escapes: Readonly<Record<string, string>> = { '\\': '\\\\', '"': '\\"', '\n': '\\n' }

function escaped(text: string): string {
  return text.replaceAll(/[\\"\n]/g, (character) => escapes[character] ?? '')
}
