/** A machine's address in whatever way it is written: `DC-A6-32-01-02-03`. */
export function addressIn(text: string): string {
  return text.toLowerCase().replaceAll('-', ':')
}
