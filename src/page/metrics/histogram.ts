/** A histogram of Prometheus: for each of its limits, it counts the values that are not larger. */
import type { Labels, Sample } from './text.ts'

export interface Histogram {
  add(value: number): void
  samples(labels: Labels): Sample[]
}

/** @param limits in ascending order */
export function createHistogram(limits: readonly number[]): Histogram {
  const counts = limits.map(() => 0)
  let [count, sum] = [0, 0]
  return {
    add(value) {
      count += 1
      sum += value
      for (const [place, limit] of limits.entries()) {
        if (value <= limit) counts[place] = (counts[place] ?? 0) + 1
      }
    },
    samples: (labels) => [
      ...limits.map((limit, place) => ({
        ...{ ending: '_bucket', labels: { ...labels, le: limit }, value: counts[place] ?? 0 },
      })),
      { ending: '_bucket', labels: { ...labels, le: '+Inf' }, value: count },
      { ending: '_sum', labels, value: sum },
      { ending: '_count', labels, value: count },
    ],
  }
}
