/**
 * What machines and files call themselves, made fit for a terminal: characters that steer it, or
 * that turn the order of others around, are never printed as they are.
 */

const steering = /[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu

/** One line, with a question mark in place of each such character. */
export function visible(text: string): string {
  return text.replaceAll(steering, '?')
}

/** Several lines, which may have tabs. */
export function visibleLines(text: string): string {
  return text.replaceAll(steering, (character) => (/[\n\t]/.test(character) ? character : '?'))
}

/** The same value to whoever parses it. JSON itself escapes only what is below U+0020. */
export function printableJson(value: unknown, indent?: number): string {
  return JSON.stringify(value, undefined, indent).replaceAll(steering, (character) =>
    character === '\n' ? character : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}
