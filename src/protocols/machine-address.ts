/** The address of a machine in our form: `DC-A6-32-01-02-03` becomes `dc:a6:32:01:02:03`. */
export function addressIn(text: string): string {
  return text.toLowerCase().replaceAll('-', ':')
}
