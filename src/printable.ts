/**
 * Makes text from machines and files safe for a terminal: replaces characters that control the
 * terminal or that change the direction of the text.
 */

const controls = /[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu

/** For one line: puts a question mark in place of each such character. */
export function visible(text: string): string {
  return text.replaceAll(controls, '?')
}

/** For several lines: keeps newlines and tabs. */
export function visibleLines(text: string): string {
  return text.replaceAll(controls, (character) => (/[\n\t]/.test(character) ? character : '?'))
}

/** JSON with such characters escaped. JSON.stringify escapes only those below U+0020. */
export function printableJson(value: unknown, indent?: number): string {
  return JSON.stringify(value, undefined, indent).replaceAll(controls, (character) =>
    character === '\n' ? character : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}
