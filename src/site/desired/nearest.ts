/** The known word that somebody most likely meant, if one is near enough. */
export function nearestOf(text: string, known: Iterable<string>): string | undefined {
  // Longer words are names of nothing, and would only take time.
  if (text.length > 64) return undefined
  let nearest: { word: string; edits: number } | undefined
  for (const word of known) {
    const most = nearest ? nearest.edits - 1 : Math.ceil(text.length / 3)
    if (Math.abs(word.length - text.length) > most) continue
    const edits = editsBetween(text, word)
    if (edits <= most) nearest = { word, edits }
  }
  return nearest?.word
}

/** How many letters are to be added, removed or replaced (Levenshtein). */
function editsBetween(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, at) => at)
  for (let above = 1; above <= one.length; above++) {
    const letter = one[above - 1]
    const next = [above]
    for (let at = 0; at < other.length; at++) {
      const replaced = (row[at] ?? 0) + (letter === other[at] ? 0 : 1)
      next.push(Math.min(replaced, (row[at + 1] ?? 0) + 1, (next[at] ?? 0) + 1))
    }
    row = next
  }
  return row[other.length] ?? 0
}
