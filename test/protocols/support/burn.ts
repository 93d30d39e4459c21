/** Uses the processor for so long. */
export function burn(milliseconds: number): void {
  for (const end = performance.now() + milliseconds; performance.now() < end;);
}
